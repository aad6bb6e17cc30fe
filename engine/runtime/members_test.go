package runtime

import "testing"

// Processes are listed one after another while numbers change hands: two may
// each seem to be the other's child.
func TestDescendsInACircle(t *testing.T) {
	parents := map[int]int{10: 1, 11: 10, 20: 21, 21: 20, 30: 30}
	in := map[int]bool{10: true}
	for pid, want := range map[int]bool{10: true, 11: true, 20: false, 30: false, 40: false} {
		if got := descends(pid, parents, in); got != want {
			t.Errorf("%d: %v, want %v", pid, got, want)
		}
	}
}
