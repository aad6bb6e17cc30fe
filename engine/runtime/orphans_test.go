package runtime

import (
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestReapZombiesTakesOldOnesOnly(t *testing.T) {
	var zombies []int
	for range 2 {
		cmd := exec.Command("/bin/true")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		zombies = append(zombies, cmd.Process.Pid) // nobody waits for it
	}
	running := exec.Command("/bin/sleep", "60")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = running.Process.Kill(); _ = running.Wait() }()

	var seen map[int]uint64
	for end := time.Now().Add(time.Minute); len(seen) < 2 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		seen = reapZombies(nil)
	}
	if len(seen) != 2 || seen[zombies[0]] == 0 || seen[zombies[1]] == 0 {
		t.Fatalf("zombies are %v, want %v", seen, zombies)
	}
	seen[zombies[1]]++ // as if it were another process with the same number
	if left := reapZombies(seen); len(left) != 1 || left[zombies[1]] == 0 {
		t.Errorf("left are %v, want %d", left, zombies[1])
	}
	if all := children(); slices.Contains(all, zombies[0]) || !slices.Contains(all, zombies[1]) || !slices.Contains(all, running.Process.Pid) {
		t.Errorf("children are %v", all)
	}
	a, b := children(), childrenOfAll()
	slices.Sort(a)
	slices.Sort(b)
	if !slices.Equal(a, b) {
		t.Errorf("children are %v or %v", a, b)
	}
	reapZombies(reapZombies(nil))
}
