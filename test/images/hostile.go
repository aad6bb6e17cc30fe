package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Hostile is an archive that tries to harm whoever loads it.
type Hostile struct {
	Name string
	// MayLoad is set where loading is harmless when the result stays inside
	// the container's root, so that either answer is right. Everything else
	// must be refused.
	MayLoad bool
	Make    func() ([]byte, error)
}

// HostileTarget is the host's path that hostile archives try to write, through
// whatever way they have. It must never exist.
const HostileTarget = "/tmp/kelp-hostile-was-here"

// HostileArchives returns every hostile archive, for `docker load`.
func HostileArchives() []Hostile {
	up := strings.Repeat("../", 20)
	escape := strings.TrimPrefix(HostileTarget, "/")
	body := []byte("escaped")
	layers := []struct {
		name    string
		mayLoad bool
		layer   Layer
	}{
		{"layer-path-escape", true, Layer{File(up+escape, 0o644, body)}},
		{"layer-absolute-path", true, Layer{File(HostileTarget, 0o644, body)}},
		{"layer-symlink-then-file", true, Layer{Symlink("out", "/tmp"), File("out/kelp-hostile-was-here", 0o644, body)}},
		{"layer-symlink-parent", true, Layer{Symlink("out", up+"tmp"), File("out/kelp-hostile-was-here", 0o644, body)}},
		{"layer-symlink-chain", true, Layer{Symlink("a", "b"), Symlink("b", "/"), File("a/"+escape, 0o644, body)}},
		{"layer-hardlink-outside", true, Layer{Hardlink("passwd", up+"etc/passwd")}},
		{"layer-hardlink-through-symlink", true, Layer{Symlink("etc", "/etc"), Hardlink("stolen", "etc/hostname")}},
		{"layer-hardlink-to-nothing", false, Layer{Hardlink("x", "not-there")}},
		{"layer-device-node", true, Layer{CharDevice("null", 1, 3), CharDevice("mem", 1, 1)}},
		{"layer-duplicates", true, Layer{File("f", 0o644, []byte("one")), Dir("f", 0o755), Symlink("f", "/etc/passwd"), File("f", 0o644, []byte("two"))}},
		{"layer-whiteout-parent", true, Layer{File(".wh...", 0, nil)}},
		{"layer-whiteout-escape", true, Layer{File("a/.wh.../"+up+escape, 0, nil)}},
		{"layer-root-replaced", true, Layer{Symlink(".", "/tmp"), File("kelp-hostile-was-here", 0o644, body)}},
		{"layer-long-name", true, Layer{File(strings.Repeat("d/", 3000)+"f", 0o644, body)}},
	}
	var all []Hostile
	for _, l := range layers {
		all = append(all, Hostile{l.name, l.mayLoad, func() ([]byte, error) {
			im := &Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Layers: []Layer{l.layer}}
			var b bytes.Buffer
			err := WriteDockerArchive(&b, Tagged{im, []string{"hostile:latest"}})
			return b.Bytes(), err
		}})
	}
	return append(all, hostileDocker(escape)...)
}

// hostileDocker returns docker archives whose own structure is hostile.
func hostileDocker(escape string) []Hostile {
	config := []byte(`{"os":"linux","architecture":"amd64","config":{},"rootfs":{"type":"layers","diff_ids":[]}}`)
	manifest := func(config, layer string) []byte {
		layers := []string{}
		if layer != "" {
			layers = append(layers, layer)
		}
		b, _ := json.Marshal([]dockerManifest{{Config: config, RepoTags: []string{"hostile:latest"}, Layers: layers}})
		return b
	}
	archive := func(entries ...Entry) func() ([]byte, error) { return Layer(entries).Tar }
	return []Hostile{
		{"empty", false, archive()},
		{"no-manifest", false, archive(File("readme", 0o644, []byte("hello")))},
		{"not-a-tar", false, func() ([]byte, error) { return bytes.Repeat([]byte("kelp"), 1000), nil }},
		{"truncated", false, truncated},
		{"manifest-not-json", false, archive(File("manifest.json", 0o644, []byte("{]")))},
		{"manifest-deep", false, archive(File("manifest.json", 0o644, bytes.Repeat([]byte("["), 1<<20)))},
		{"manifest-symlink", false, archive(Symlink("manifest.json", "/etc/passwd"))},
		{"config-symlink", false, archive(File("manifest.json", 0o644, manifest("c.json", "")), Symlink("c.json", "/etc/passwd"))},
		{"config-path-escape", false, archive(File("manifest.json", 0o644, manifest("../../../../etc/passwd", "")))},
		{"config-missing", false, archive(File("manifest.json", 0o644, manifest("c.json", "")))},
		{"layer-file-symlink", false, archive(
			File("manifest.json", 0o644, manifest("c.json", "layer.tar")),
			File("c.json", 0o644, []byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["`+digest.FromString("x").String()+`"]}}`)),
			Symlink("layer.tar", "/etc/passwd"),
		)},
		{"layer-count-differs", false, archive(
			File("manifest.json", 0o644, manifest("c.json", "layer.tar")), File("c.json", 0o644, config), File("layer.tar", 0o644, make([]byte, 1024)),
		)},
		{"archive-path-escape", false, archive(File("../../"+escape, 0o644, []byte("escaped")), File("manifest.json", 0o644, []byte("[]")))},
		{"oci-wrong-digest", false, wrongDigest},
		{"oci-missing-blob", false, missingBlob},
		{"oci-wrong-size", false, wrongSize},
		{"oci-digest-path-escape", false, digestEscape},
		{"tar-size-lie", false, sizeLie},
	}
}

func truncated() ([]byte, error) {
	b, err := ociArchive(func(*Layout) {})
	if err != nil {
		return nil, err
	}
	return b[:len(b)*2/3], nil
}

// ociArchive makes a small valid archive and lets edit spoil it.
func ociArchive(edit func(*Layout)) ([]byte, error) {
	l := NewLayout()
	im := &Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Layers: []Layer{Random("data", 64<<10, 1)}}
	d, err := l.AddImage(im, None)
	if err != nil {
		return nil, err
	}
	l.Tag(d, "hostile:latest")
	edit(l)
	var b bytes.Buffer
	err = l.WriteTar(&b)
	return b.Bytes(), err
}

// largest returns the digest of the layer's blob.
func (l *Layout) largest() (at digest.Digest) {
	for d, b := range l.Blobs {
		if len(b) > len(l.Blobs[at]) {
			at = d
		}
	}
	return at
}

func wrongDigest() ([]byte, error) {
	return ociArchive(func(l *Layout) {
		d := l.largest()
		l.Blobs[d] = append([]byte(nil), l.Blobs[d]...)
		l.Blobs[d][2000] ^= 1
	})
}

func missingBlob() ([]byte, error) {
	return ociArchive(func(l *Layout) { delete(l.Blobs, l.largest()) })
}

func wrongSize() ([]byte, error) {
	return ociArchive(func(l *Layout) { l.Index.Manifests[0].Size = 7 })
}

func digestEscape() ([]byte, error) {
	return ociArchive(func(l *Layout) {
		l.Index = ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{{
			MediaType: ocispec.MediaTypeImageManifest, Digest: "sha256:../../../../../../etc/passwd", Size: 10,
		}}}
	})
}

// sizeLie is an archive whose entry claims a terabyte and ends at once.
func sizeLie() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h := File("manifest.json", 0o644, nil).Header
	h.Size = 1 << 40
	if err := w.WriteHeader(&h); err != nil {
		return nil, err
	}
	return append(b.Bytes(), "[]"...), nil
}

// Bomb returns a gzip-compressed docker archive whose layer unpacks to size
// zero bytes, about a thousand times what the archive takes.
func Bomb(size int) ([]byte, error) {
	im := &Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Layers:   []Layer{{File("zeros", 0o644, make([]byte, size))}},
	}
	var b bytes.Buffer
	if err := WriteDockerArchive(&b, Tagged{im, []string{fmt.Sprintf("bomb:%d", size)}}); err != nil {
		return nil, err
	}
	return Compress(b.Bytes(), Gzip)
}
