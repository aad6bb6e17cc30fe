package runtime

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// fakeCgroup is a cgroup in a parent; put writes the counts of kills in both.
func fakeCgroup(t *testing.T) (dir string, put func(own, above string)) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "scope")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir, func(own, above string) {
		t.Helper()
		for in, kills := range map[string]string{filepath.Dir(dir): above, dir: own} {
			content := "low 0\nhigh 0\nmax 7\noom 1\noom_kill " + kills + "\noom_group_kill 0\n"
			// As in the kernel's, there is no moment when it is empty.
			f, err := os.OpenFile(filepath.Join(in, "memory.events"), os.O_WRONLY|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(content); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
	}
}

func TestOOMWatch(t *testing.T) {
	dir, put := fakeCgroup(t)
	put("2", "5")
	w, err := watchOOM(dir)
	if err != nil {
		t.Fatal(err)
	}
	if w.Killed() {
		t.Error("kills of before count")
	}
	told := make(chan bool)
	go func() {
		for w.Wait() {
			told <- true
		}
		close(told)
	}()
	select {
	case <-told:
		t.Fatal("told of nothing")
	case <-time.After(50 * time.Millisecond):
	}
	put("2", "6") // another event of the cgroup, and a kill in another one
	put("3", "7")
	if !<-told {
		t.Error("not told of a kill")
	}
	if !w.Killed() {
		t.Error("forgot a kill that somebody was told of")
	}
	w.Close()
	if _, more := <-told; more {
		t.Error("goes on after Close")
	}
}

func TestOOMWatchOfCgroupThatIsGone(t *testing.T) {
	for _, killed := range []bool{false, true} {
		dir, put := fakeCgroup(t)
		put("0", "5")
		w, err := watchOOM(dir)
		if err != nil {
			t.Fatal(err)
		}
		if killed {
			put("1", "6")
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if w.Wait() {
			t.Error("told of a kill by a cgroup that is gone")
		}
		if got := w.Killed(); got != killed {
			t.Errorf("killed: %v, want %v", got, killed)
		}
		w.Close()
	}
}
