package transfer

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kelp-engine/kelp/image"
	"github.com/kelp-engine/kelp/test/images"
)

// FuzzLoad feeds anything as an archive: what is refused leaves nothing.
func FuzzLoad(f *testing.F) {
	for _, h := range images.HostileArchives() {
		b, err := h.Make()
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 32<<10 {
			f.Add(b)
		}
	}
	m, dir := newManager(f)
	f.Fuzz(func(t *testing.T, archive []byte) {
		err := m.Load(t.Context(), bytes.NewReader(archive), LoadOptions{}, func(jsonstream.Message) {})
		staged, _ := os.ReadDir(filepath.Join(dir, "root", "overlay", "staging"))
		spooled, _ := os.ReadDir(m.store.TempDir())
		if len(staged)+len(spooled) > 0 {
			t.Errorf("left: %v %v after %v", staged, spooled, err)
		}
		list, lerr := m.store.List(t.Context(), image.ListOptions{All: true})
		if lerr != nil || err != nil && len(list) > 0 {
			t.Errorf("images after a refused load: %v, %v", list, lerr)
		}
		for _, im := range list {
			if _, err := m.store.Remove(t.Context(), im.ID, image.RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzChooseManifest feeds anything as an index and a platform.
func FuzzChooseManifest(f *testing.F) {
	f.Add([]byte(`{"manifests":[{"platform":{"os":"linux","architecture":"amd64"}},{"platform":{"os":"linux","architecture":"arm","variant":"v7"}}]}`), "linux/arm/v7")
	f.Fuzz(func(_ *testing.T, doc []byte, platform string) {
		p, err := ParsePlatform(platform)
		if err != nil || p == nil {
			return
		}
		_, _ = chooseManifest(doc, []ocispec.Platform{*p})
	})
}

// FuzzManifest feeds anything as a manifest.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"config":{"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[]}`), "application/vnd.oci.image.manifest.v1+json")
	f.Fuzz(func(_ *testing.T, doc []byte, mediaType string) { _, _ = parseManifest(doc, mediaType) })
}
