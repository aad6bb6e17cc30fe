package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/vbatts/tar-split/archive/tar"
)

// CommitOptions say what a container's image looks like.
type CommitOptions struct {
	// Reference is the tag that the image gets, or "".
	Reference string
	// Author and Comment are recorded in the image.
	Author, Comment string
	// Changes are Dockerfile instructions that edit Config.
	Changes []string
	// Config is what the client wants; nil wants nothing special. What it
	// leaves open comes from Container.
	Config *container.Config
	// Container is the container's own configuration.
	Container *container.Config
}

// Commit makes an image of a container's root file system and returns its Id.
// Whoever wants a consistent image stops writers first.
func (s rootFSs) Commit(ctx context.Context, containerID string, o CommitOptions) (string, error) {
	names, err := TagNames(o.Reference)
	if err != nil {
		return "", err
	}
	config := &container.Config{}
	if o.Config != nil {
		c := *o.Config
		config = &c
	}
	if err := ApplyChanges(config, o.Changes); err != nil {
		return "", err
	}
	if o.Container != nil {
		mergeConfig(config, o.Container)
	}
	parent, err := s.RootFSImage(containerID)
	if err != nil {
		return "", err
	}
	base := &Image{Platform: hostPlatform()}
	if parent != "" {
		if base, err = s.Resolve(ctx, parent); err != nil {
			return "", err
		}
	}
	st, err := s.stageChanges(ctx, containerID)
	if err != nil {
		return "", fmt.Errorf("cannot commit container %s: %w", containerID, err)
	}
	defer st.Discard()
	doc := committed(base, st.DiffID, containerID, config, o)
	raw, err := doc.encode()
	if err != nil {
		return "", err
	}
	im, err := s.Assemble(ctx, Draft{Config: raw, Names: names, Parent: parent}, map[digest.Digest]*Staged{st.DiffID: st})
	if err != nil {
		return "", err
	}
	for _, n := range names {
		s.Publish(events.ActionTag, im.ID, reference.FamiliarString(n))
	}
	return im.ID, nil
}

// TagNames reads the tag that a new image gets; "" is none.
func TagNames(ref string) ([]reference.Named, error) {
	if ref == "" {
		return nil, nil
	}
	named, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, errDigestTag
	}
	if isAlgorithmName(named) {
		return nil, errAlgorithmName
	}
	return []reference.Named{reference.TagNameOnly(named)}, nil
}

func hostPlatform() ocispec.Platform {
	return ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

func committed(base *Image, diffID digest.Digest, containerID string, config *container.Config, o CommitOptions) *imageDocument {
	now := time.Now().UTC()
	createdBy := ""
	if o.Container != nil {
		createdBy = strings.Join(slices.Concat(o.Container.Entrypoint, o.Container.Cmd), " ")
	}
	return &imageDocument{
		Image: ocispec.Image{
			Created:  &now,
			Author:   o.Author,
			Platform: base.Platform,
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: append(slices.Clone(base.DiffIDs), diffID)},
			History:  append(slices.Clone(base.History), ocispec.History{Created: &now, CreatedBy: createdBy, Author: o.Author, Comment: o.Comment}),
		},
		Config:    fromContainer(config),
		Comment:   o.Comment,
		Container: containerID,
	}
}

// stageChanges stages what the container wrote as a layer.
func (s rootFSs) stageChanges(ctx context.Context, containerID string) (*Staged, error) {
	l, err := s.rootFS(containerID)
	if err != nil {
		return nil, err
	}
	driver, err := s.store.GraphDriver()
	if err != nil {
		return nil, err
	}
	ids, below := mappings(l), s.parentMappings(l)
	changes, err := driver.Changes(l.ID, ids, l.Parent, below, "")
	if err != nil {
		return nil, err
	}
	diff, err := driver.Diff(l.ID, ids, l.Parent, below, "")
	if err != nil {
		return nil, err
	}
	defer diff.Close()
	return s.stageFiltered(ctx, diff, stubs(changes))
}

// stageFiltered stages a tar stream without the paths in skip.
func (s rootFSs) stageFiltered(ctx context.Context, diff io.Reader, skip map[string]bool) (*Staged, error) {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(copyTar(w, diff, skip))
	}()
	st, err := s.Stage(ctx, r)
	r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	<-done
	return st, err
}

func copyTar(w io.Writer, r io.Reader, skip map[string]bool) error {
	in, out := tar.NewReader(r), tar.NewWriter(w)
	for {
		hdr, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return err
		}
		if skip[path.Clean("/"+hdr.Name)] {
			continue
		}
		if err := out.WriteHeader(hdr); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}
