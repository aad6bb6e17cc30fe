package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func small() *Image {
	return &Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Layers:   []Layer{{Dir("d", 0o755), File("d/f", 0o600, []byte("x")), Whiteout("d", "g"), Opaque("d")}},
	}
}

func TestFormatsAreDeterministic(t *testing.T) {
	for _, tc := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{"docker", func(w io.Writer) error { return WriteDockerArchive(w, Tagged{small(), []string{"a:1"}}) }},
		{"oci", func(w io.Writer) error {
			l := NewLayout()
			d, err := l.AddIndex(Gzip, small(), small().ForPlatform(ocispec.Platform{OS: "linux", Architecture: "arm64"}))
			if err != nil {
				return err
			}
			l.Tag(d, "a:1")
			return l.WriteTar(w)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var a, b bytes.Buffer
			if err := errors.Join(tc.write(&a), tc.write(&b)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a.Bytes(), b.Bytes()) {
				t.Error("two writes differ")
			}
			for r := tar.NewReader(&a); ; {
				if _, err := r.Next(); errors.Is(err, io.EOF) {
					return
				} else if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestHostileArchivesCanBeMade(t *testing.T) {
	seen := map[string]bool{}
	for _, h := range HostileArchives() {
		if seen[h.Name] {
			t.Errorf("two archives are called %s", h.Name)
		}
		seen[h.Name] = true
		if _, err := h.Make(); err != nil {
			t.Errorf("%s: %v", h.Name, err)
		}
	}
}
