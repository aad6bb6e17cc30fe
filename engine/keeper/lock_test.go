package keeper

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestLockData(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "b")
	if _, err := FindHolder(root); !errdefs.IsNotFound(err) {
		t.Errorf("a data root that is not there has a holder: %v", err)
	}
	f, err := LockData(root, "/run", "/run/s")
	if err != nil {
		t.Fatal(err)
	}
	h, err := FindHolder(root)
	if err != nil || h.PID != os.Getpid() || h.RuntimeDir != "/run" || h.Socket != "/run/s" {
		t.Errorf("got %+v, %v", h, err)
	}
	if _, err := LockData(root, "/run", "/run/s"); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "kelp stop") {
		t.Errorf("a second lock: %v", err)
	}
	f.Close()
	again, err := LockData(root, "/other", "/other/s")
	if err != nil {
		t.Fatalf("after the holder's end: %v", err)
	}
	again.Close()
}

func TestLockDataThatOthersCouldWriteTo(t *testing.T) {
	root := t.TempDir()
	for _, mode := range []os.FileMode{0o777, 0o770, 0o1777} {
		if err := os.Chmod(root, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LockData(root, "/run", "/run/s"); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestFindHolderBelievesNoStaleFile(t *testing.T) {
	f, err := LockData(t.TempDir(), "/run", "/run/s")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root := filepath.Dir(f.Name())
	now, err := FindHolder(root)
	if err != nil {
		t.Fatal(err)
	}
	reused, rebooted := now, now
	reused.StartTime++
	rebooted.Boot = "another"
	for name, h := range map[string]any{
		"a pid that was used again": reused,
		"another boot":              rebooted,
		"no object":                 []int{1},
		"a bad pid":                 Holder{},
	} {
		b, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Name(), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := FindHolder(root); !errdefs.IsNotFound(err) {
			t.Errorf("%s: found %+v, %v", name, got, err)
		}
	}
}
