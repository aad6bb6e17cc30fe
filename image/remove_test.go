package image

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/test/images"
)

// users is a fixed answer to who uses images.
type users map[string][]User

func (u users) ContainersOf(id string) []User { return u[id] }

// heard collects events.
type heard []string

func (h *heard) Publish(_ events.Type, action events.Action, id string, attrs map[string]string) {
	*h = append(*h, fmt.Sprint(action, " ", short(id) == id || strings.HasPrefix(id, "sha256:")))
}

func one(name string) []images.Layer {
	return []images.Layer{{images.File(name, 0o644, []byte(name))}}
}

func TestRemove(t *testing.T) {
	running, stopped := []User{{ID: "r1", Running: true}}, []User{{ID: "s1"}}
	for _, test := range []struct {
		name   string
		tags   []string
		users  []User
		child  bool
		remove string // "ID" is the image's
		force  bool
		err    string   // part of the error
		report string   // kinds of the report's items
		left   []string // references afterwards; nil when the image is gone
	}{
		{name: "last tag", tags: []string{"a:1"}, remove: "a:1", report: "UDD"},
		{name: "default tag", tags: []string{"a:latest"}, remove: "a", report: "UDD"},
		{name: "one tag of two", tags: []string{"a:1", "a:2"}, remove: "a:1", report: "U", left: []string{"a:2"}},
		{name: "tag with its digest", tags: []string{"a:1", digestRef("a")}, remove: "a:1", report: "UUDD"},
		{name: "tag and digest of another repository", tags: []string{"a:1", digestRef("b")}, remove: "a:1", report: "U", left: []string{digestRef("b")}},
		{name: "digest", tags: []string{"a:1", digestRef("a")}, remove: digestRef("a"), report: "U", left: []string{"a:1"}},
		{name: "id", tags: []string{"a:1"}, remove: "ID", report: "UDD"},
		{name: "id without names", remove: "ID", report: "DD"},
		{name: "id of two tags", tags: []string{"a:1", "b:1"}, remove: "ID", err: "(must be forced) - image is referenced in multiple repositories", left: []string{"a:1", "b:1"}},
		{name: "id of two tags forced", tags: []string{"a:1", "b:1"}, remove: "ID", force: true, report: "UUDD"},
		{
			name: "last tag and stopped container", tags: []string{"a:1"}, users: stopped, remove: "a:1",
			err: `unable to remove repository reference "a:1" (must force) - container s1 is using its referenced image`, left: []string{"a:1"},
		},
		{name: "last tag and stopped container and forced", tags: []string{"a:1"}, users: stopped, remove: "a:1", force: true, report: "UDD"},
		{name: "one tag of two and running container", tags: []string{"a:1", "a:2"}, users: running, remove: "a:1", report: "U", left: []string{"a:2"}},
		{name: "last tag and running container and forced", tags: []string{"a:1"}, users: running, remove: "a:1", force: true, report: "U", left: []string{}},
		{
			name: "id and running container and forced", tags: []string{"a:1"}, users: running, remove: "ID", force: true,
			err: "(cannot be forced) - image is being used by running container r1", left: []string{"a:1"},
		},
		{
			name: "id and stopped container", tags: []string{"a:1"}, users: stopped, remove: "ID",
			err: "(must be forced) - image is being used by stopped container s1", left: []string{"a:1"},
		},
		{
			name: "id with a child", tags: []string{"a:1"}, child: true, remove: "ID", force: true,
			err: "(cannot be forced) - image has dependent child images", left: []string{"a:1"},
		},
		{name: "tag with a child", tags: []string{"a:1"}, child: true, remove: "a:1", report: "U", left: []string{}},
		{name: "unknown", tags: []string{"a:1"}, remove: "b", err: "No such image: b:latest", left: []string{"a:1"}},
		{name: "unknown id", tags: []string{"a:1"}, remove: "sha256:" + strings.Repeat("0", 64), err: "No such image", left: []string{"a:1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, "overlay")
			var h heard
			s.events = &h
			im := put(t, s, one("x"), test.tags...)
			s.SetUsers(users{im.ID: test.users})
			if test.child {
				if err := s.CreateRootFS(t.Context(), "c", im.ID, false, Shift{}); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Commit(t.Context(), "c", CommitOptions{Reference: "child"}); err != nil {
					t.Fatal(err)
				}
			}
			h = nil
			ref := test.remove
			if ref == "ID" {
				ref = im.ID
			}
			report, err := s.Remove(t.Context(), ref, RemoveOptions{Force: test.force})
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error is %v, want %q", err, test.err)
			}
			kinds := ""
			for _, r := range report {
				if r.Untagged != "" {
					kinds += "U"
				} else {
					kinds += "D"
				}
			}
			if kinds != test.report {
				t.Errorf("report is %+v, want %s", report, test.report)
			}
			if n := strings.Count(kinds, "U"); strings.Count(fmt.Sprint(h), "untag") != n {
				t.Errorf("events are %v", h)
			}
			left, err := s.Resolve(t.Context(), im.ID)
			if test.left == nil {
				if err == nil {
					t.Errorf("the image stays, as %q", left.RepoTags)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Concat(left.RepoTags, left.RepoDigests); !slices.Equal(got, test.left) {
				t.Errorf("references left are %q, want %q", got, test.left)
			}
		})
	}
}

func digestRef(repository string) string {
	return repository + "@sha256:" + strings.Repeat("ab", 32)
}
