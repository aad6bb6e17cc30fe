package image

import (
	"fmt"
	"testing"
)

// BenchmarkRootFS makes, mounts, unmounts and removes a root file system.
func BenchmarkRootFS(b *testing.B) {
	for _, temporary := range []bool{false, true} {
		b.Run(fmt.Sprint("temporary=", temporary), func(b *testing.B) {
			s := open(b, "overlay")
			im := put(b, s, simple, "app")
			for i := 0; b.Loop(); i++ {
				cycle(b, s, fmt.Sprint("c", i), im.ID, temporary)
			}
		})
	}
}

func cycle(b *testing.B, s *Store, id, image string, temporary bool) {
	if err := s.CreateRootFS(b.Context(), id, image, temporary, Shift{}); err != nil {
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
