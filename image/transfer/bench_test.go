package transfer

import (
	"os"
	"testing"

	"github.com/moby/moby/api/types/jsonstream"

	"github.com/kelp-engine/kelp/image"
)

// BenchmarkLoad loads the archive named by KELP_BENCH_ARCHIVE, whose image is
// big:latest.
func BenchmarkLoad(b *testing.B) {
	path := os.Getenv("KELP_BENCH_ARCHIVE")
	if path == "" {
		b.Skip("KELP_BENCH_ARCHIVE names no archive")
	}
	m, _ := newManager(b)
	for b.Loop() {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Load(b.Context(), f, LoadOptions{}, func(jsonstream.Message) {}); err != nil {
			b.Fatal(err)
		}
		f.Close()
		b.StopTimer()
		if _, err := m.store.Remove(b.Context(), "big", image.RemoveOptions{}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
