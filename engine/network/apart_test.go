package network

import (
	"sync"
	"testing"
)

// Containers come and go while others are asked about. The Go runtime ends a
// process whose maps are used without their lock.
func TestManyAtTheSameTime(t *testing.T) {
	s := fresh(t)
	var wg sync.WaitGroup
	for _, c := range []*Container{s.add("aaaa", "a", "none"), s.add("bbbb", "b", "host"), s.add("cccc", "c", "bridge")} {
		wg.Go(func() {
			for range 200 {
				if _, err := s.Attach(t.Context(), c); err != nil {
					t.Error(err)
					return
				}
				if err := s.Detach(t.Context(), c.ID); err != nil {
					t.Error(err)
					return
				}
			}
		})
		wg.Go(func() {
			for range 2000 {
				s.Settings(c)
			}
		})
	}
	wg.Wait()
}
