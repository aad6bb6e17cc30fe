package image

import (
	"fmt"
	"testing"
)

// BenchmarkRootFS makes, mounts, unmounts and removes a root file system.
func BenchmarkRootFS(b *testing.B) {
	s := open(b, "overlay")
	im := put(b, s, simple, "app")
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprint("c", i)
		if err := s.CreateRootFS(b.Context(), id, im.ID); err != nil {
			b.Fatal(err)
		}
		if _, err := s.MountRootFS(id); err != nil {
			b.Fatal(err)
		}
		if err := s.UnmountRootFS(id); err != nil {
			b.Fatal(err)
		}
		if err := s.RemoveRootFS(id); err != nil {
			b.Fatal(err)
		}
	}
}
