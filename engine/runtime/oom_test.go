package runtime

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOOMWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory.events")
	put := func(kills string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		// All at once, as in the kernel's file.
		if _, err := f.WriteString("low 0\nhigh 0\nmax 7\noom 1\noom_kill " + kills + "\noom_group_kill 0\n"); err != nil {
			t.Fatal(err)
		}
	}
	put("2")
	notify, err := watchFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w := &OOMWatch{path: path, last: 2, notify: notify}
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
	put("2") // another event of the cgroup
	put("3")
	if !<-told {
		t.Error("not told of a kill")
	}
	w.Close()
	if _, more := <-told; more {
		t.Error("goes on after Close")
	}
}
