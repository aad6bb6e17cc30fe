package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPassable(t *testing.T) {
	group := filepath.Join(t.TempDir(), "group")
	data := filepath.Join(group, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := passable(data); err != nil {
		t.Errorf("one's own: %v", err)
	}
	if err := os.Chown(group, -1, overflowID); err != nil {
		t.Skip("only root can give a directory away:", err)
	}
	if err := os.Chmod(group, 0o770); err != nil {
		t.Fatal(err)
	}
	if err := passable(data); err == nil || !strings.Contains(err.Error(), " "+group+",") {
		t.Errorf("of a group that is unknown: %v", err)
	}
	if err := os.Chmod(group, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := passable(data); err != nil {
		t.Errorf("for all to pass: %v", err)
	}
}
