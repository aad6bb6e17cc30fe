package images

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Recipe says what image to make and how to write it, for tests that name one
// rather than build it from parts.
type Recipe struct {
	// Name is "busybox", "scratch" (no layer at all), "multiarch" (busybox as
	// amd64, and as arm64 in name only) or "hostile:" and the name of one of
	// HostileArchives, which ignores all the rest.
	Name string
	// Ref is the reference the archive carries; "" for none.
	Ref string
	// Format is "docker", "oci" (an archive) or "oci-dir".
	Format string
	// Layer is the compression of each layer in the oci formats, Archive that
	// of the whole archive.
	Layer, Archive Compression
	// Config is merged as JSON over the image's run configuration.
	Config []byte
	// Extra is how many layers are added, each with a file /layers/N that
	// holds N; Random is the size in bytes of a layer of noise.
	Extra, Random int
}

// Flags defines the recipe's command line flags in fs.
func (r *Recipe) Flags(fs *flag.FlagSet) {
	fs.StringVar(&r.Ref, "ref", "", "the references in the archive, separated by spaces")
	fs.StringVar(&r.Format, "format", "docker", "docker, oci or oci-dir")
	fs.StringVar((*string)(&r.Layer), "layer", "", "compression of oci layers: gzip or zstd")
	fs.StringVar((*string)(&r.Archive), "archive", "", "compression of the whole archive: gzip or zstd")
	fs.IntVar(&r.Extra, "extra", 0, "number of small layers to add")
	fs.IntVar(&r.Random, "random", 0, "bytes of noise to add")
}

// Image returns the image that the recipe describes.
func (r Recipe) Image() (*Image, error) {
	im := &Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	if r.Name != "scratch" {
		var err error
		if im, err = Busybox(); err != nil {
			return nil, err
		}
	}
	for i := range r.Extra {
		im.Layers = append(im.Layers, Layer{
			Dir("layers", 0o755), File(fmt.Sprintf("layers/%d", i+1), 0o644, fmt.Appendln(nil, i+1)),
		})
	}
	for i, left := 0, r.Random; left > 0; i++ { // registries and engines work on layers in parallel
		size := min(left, 64<<20)
		im.Layers = append(im.Layers, Random(fmt.Sprintf("noise%d", i), size, uint64(i)))
		left -= size
	}
	if len(r.Config) > 0 {
		if err := json.Unmarshal(r.Config, &im.Config); err != nil {
			return nil, fmt.Errorf("cannot read the image's configuration: %w", err)
		}
	}
	return im, nil
}

// Layout returns the image as blobs, and the descriptor of its manifest, or of
// its index for a multi-arch image.
func (r Recipe) Layout() (*Layout, ocispec.Descriptor, error) {
	im, err := r.Image()
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	l := NewLayout()
	if r.Name == "multiarch" {
		foreign := im.ForPlatform(ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}).
			With(func(c *Config) { c.Labels = map[string]string{"arch": "arm64"} })
		native := im.With(func(c *Config) { c.Labels = map[string]string{"arch": "amd64"} })
		d, err := l.AddIndex(r.Layer, foreign, native)
		return l, d, err
	}
	d, err := l.AddImage(im, r.Layer)
	return l, d, err
}

// Write makes the image and writes it to path.
func (r Recipe) Write(path string) error {
	var b bytes.Buffer
	if name, ok := strings.CutPrefix(r.Name, "hostile:"); ok {
		return writeHostile(name, path)
	}
	switch r.Format {
	case "", "docker":
		im, err := r.Image()
		if err != nil {
			return err
		}
		if err := WriteDockerArchive(&b, Tagged{im, strings.Fields(r.Ref)}); err != nil {
			return err
		}
	case "oci", "oci-dir":
		l, d, err := r.Layout()
		if err != nil {
			return err
		}
		l.Tag(d, r.Ref)
		if r.Format == "oci-dir" {
			return l.WriteDir(path)
		}
		if err := l.WriteTar(&b); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown format %q: use docker, oci or oci-dir", r.Format)
	}
	out, err := Compress(b.Bytes(), r.Archive)
	if err != nil {
		return err
	}
	return os.WriteFile(path, out, 0o644)
}

func writeHostile(name, path string) error {
	for _, h := range HostileArchives() {
		if h.Name != name {
			continue
		}
		b, err := h.Make()
		if err != nil {
			return err
		}
		return os.WriteFile(path, b, 0o644)
	}
	return fmt.Errorf("there is no hostile archive %q", name)
}
