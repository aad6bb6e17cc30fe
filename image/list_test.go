package image

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kelp-engine/kelp/engine/filter"
	"github.com/kelp-engine/kelp/test/images"
)

// putAt stores an image without layers that was made on the given day.
func putAt(t testing.TB, s *Store, day int, labels map[string]string, names ...string) *Image {
	t.Helper()
	created := time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)
	doc := imageDocument{Image: ocispec.Image{Created: &created, Platform: hostPlatform(), RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}}
	doc.Config.Labels = labels
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	draft := Draft{Config: raw}
	for _, n := range names {
		named, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			t.Fatal(err)
		}
		draft.Names = append(draft.Names, reference.TagNameOnly(named))
	}
	im, err := s.Assemble(t.Context(), draft, nil)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func TestList(t *testing.T) {
	s := open(t, "overlay")
	one := putAt(t, s, 1, map[string]string{"a": "1"}, "one:1", "registry.example:5000/one:2")
	putAt(t, s, 2, map[string]string{"a": "2"}, "two")
	loose := putAt(t, s, 3, nil)
	putAt(t, s, 4, nil, digestRef("four"))
	base := put(t, s, simple)
	if err := s.CreateRootFS(t.Context(), "c", base.ID, false, Shift{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), "c", CommitOptions{Reference: "child"}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		filter filter.Args
		all    bool
		want   string // the first reference of each, or <none>
	}{
		{nil, false, "child:latest four@ <none> two:latest one:1"},
		{nil, true, "child:latest four@ <none> two:latest one:1 <none>"},
		{filter.Args{"dangling": {"true"}}, false, "four@ <none>"},
		{filter.Args{"dangling": {"false"}}, false, "child:latest two:latest one:1"},
		{filter.Args{"label": {"a"}}, false, "two:latest one:1"},
		{filter.Args{"label": {"a=1"}}, false, "one:1"},
		{filter.Args{"reference": {"one"}}, false, "one:1"},
		{filter.Args{"reference": {"*:latest"}}, false, "child:latest two:latest"},
		{filter.Args{"reference": {"registry.example:5000/*:2"}}, false, "registry.example:5000/one:2"},
		{filter.Args{"before": {"two"}}, false, "one:1"},
		{filter.Args{"since": {"two"}}, false, "child:latest four@ <none>"},
		{filter.Args{"since": {"one:1"}, "before": {loose.ID}}, false, "two:latest"},
		{filter.Args{"until": {"2026-01-02T12:00:00Z"}}, false, "two:latest one:1"},
	} {
		list, err := s.List(t.Context(), ListOptions{Filters: test.filter, All: test.all})
		if err != nil {
			t.Errorf("%v: %v", test.filter, err)
			continue
		}
		var got []string
		for _, im := range list {
			name := "<none>"
			for _, ref := range slices.Backward(slices.Concat(im.RepoTags, im.RepoDigests)) {
				name = ref
			}
			before, _, _ := strings.Cut(name, "sha256:")
			got = append(got, before)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%v: listed %q, want %q", test.filter, got, test.want)
		}
	}
	for _, f := range []filter.Args{{"dangling": {"maybe"}}, {"until": {"never"}}, {"reference": {"[a"}}} {
		if _, err := s.List(t.Context(), ListOptions{Filters: f}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v gives %v", f, err)
		}
	}
	if _, err := s.List(t.Context(), ListOptions{Filters: filter.Args{"before": {"nobody"}}}); !errdefs.IsNotFound(err) {
		t.Errorf("an unknown image as bound gives %v", err)
	}
	testPrune(t, s, one)
}

// testPrune removes what nothing names, then what no container uses.
func testPrune(t *testing.T, s *Store, used *Image) {
	s.SetUsers(users{used.ID: {{ID: "c"}}})
	report, err := s.Prune(t.Context(), filter.Args{"label!": {"x"}})
	if err != nil || len(report.ImagesDeleted) != 1 {
		t.Errorf("prune: %+v, %v", report, err)
	}
	report, err = s.Prune(t.Context(), filter.Args{"dangling": {"false"}})
	if err != nil || report.SpaceReclaimed == 0 {
		t.Errorf("prune of all: %+v, %v", report, err)
	}
	list, err := s.List(t.Context(), ListOptions{All: true})
	if err != nil || len(list) != 1 || list[0].ID != used.ID {
		t.Errorf("left after prune: %+v, %v", list, err)
	}
}

func TestResolve(t *testing.T) {
	s := open(t, "overlay")
	im := put(t, s, one("x"), "app", "other/app:1", digestRef("app"))
	hexName := put(t, s, one("y"), im.storeID[:6])
	for _, ref := range []string{
		"app", "app:latest", "docker.io/library/app", "other/app:1", digestRef("app"), "app:ignored@" + strings.TrimPrefix(digestRef("app"), "app@"),
		im.ID, im.storeID, im.storeID[:12], im.ID[:20],
	} {
		got, err := s.Resolve(t.Context(), ref)
		if err != nil || got.ID != im.ID {
			t.Errorf("%q finds %v, %v", ref, got, err)
		}
	}
	if got, err := s.Resolve(t.Context(), im.storeID[:6]); err != nil || got.ID != hexName.ID {
		t.Errorf("a name loses against the beginning of an Id: %v, %v", got, err)
	}
	for ref, message := range map[string]string{
		"nobody": "No such image: nobody:latest", "app:2": "No such image: app:2", "other/app": "No such image: other/app:latest",
		"localhost:5000/x": "No such image: localhost:5000/x:latest", "sha256:" + strings.Repeat("0", 64): "No such image: sha256:" + strings.Repeat("0", 64),
	} {
		if _, err := s.Resolve(t.Context(), ref); !errdefs.IsNotFound(err) || err.Error() != message {
			t.Errorf("%q gives %v", ref, err)
		}
	}
	for _, ref := range []string{"", "UPPER", "a b", "a:b:c", "/x", "x/", ":tag", "x@sha256:1"} {
		if _, err := s.Resolve(t.Context(), ref); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q gives %v", ref, err)
		}
	}
	for _, ref := range []string{"sha256:abc", digestRef("x"), "sha256"} {
		if err := s.Tag(t.Context(), "app", ref); !errdefs.IsInvalidArgument(err) {
			t.Errorf("tagging as %q gives %v", ref, err)
		}
	}
}

// TestMovedTag gives a tag to another image; the first loses it.
func TestMovedTag(t *testing.T) {
	s := open(t, "overlay")
	a := put(t, s, one("a"), "app")
	b := put(t, s, one("b"), "app")
	for id, want := range map[string]int{a.ID: 0, b.ID: 1} {
		if im, err := s.Resolve(t.Context(), id); err != nil || len(im.RepoTags) != want {
			t.Errorf("%v, %v: want %d tags", im, err, want)
		}
	}
	if err := s.Tag(t.Context(), a.ID, "app"); err != nil {
		t.Fatal(err)
	}
	if im, err := s.Resolve(t.Context(), "app"); err != nil || im.ID != a.ID {
		t.Errorf("%v, %v", im, err)
	}
}

// TestRepair opens a store in which operations were cut short.
func TestRepair(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir, "overlay")
	kept := put(t, s, one("kept"), "kept")
	if err := s.CreateRootFS(t.Context(), "c", kept.ID, false, Shift{}); err != nil {
		t.Fatal(err)
	}
	var diffIDs []digest.Digest
	staged := map[digest.Digest]*Staged{}
	for _, l := range simple {
		st, err := s.Stage(t.Context(), strings.NewReader(string(tarOf(t, l))))
		if err != nil {
			t.Fatal(err)
		}
		diffIDs = append(diffIDs, st.DiffID)
		staged[st.DiffID] = st
	}
	if _, _, err := s.commitLayers(diffIDs, staged); err != nil { // and no image
		t.Fatal(err)
	}
	if _, err := s.Stage(t.Context(), strings.NewReader(string(tarOf(t, images.Layer{images.File("x", 0o644, nil)})))); err != nil {
		t.Fatal(err) // and no commit
	}
	again := reopen(t, dir, "overlay")
	list, err := again.store.Layers()
	if err != nil || len(list) != 2 {
		t.Errorf("layers after repair: %d, %v; want the image's and the container's", len(list), err)
	}
	if again.Has(diffIDs[:1]) {
		t.Error("a leftover layer counts as there")
	}
	if ids, err := again.RootFSIDs(); err != nil || !slices.Equal(ids, []string{"c"}) {
		t.Errorf("root file systems after repair: %v, %v", ids, err)
	}
	put(t, again, simple, "again")
}
