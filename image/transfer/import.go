package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image"
)

// ImportOptions say what becomes of an imported root file system.
type ImportOptions struct {
	// Reference is the tag that the image gets, or "".
	Reference string
	// Message is the comment in the image's history.
	Message string
	// Changes are Dockerfile instructions for the run configuration.
	Changes []string
	// Platform is what the image runs on; nil is this machine.
	Platform *ocispec.Platform
	// Size is the length of the archive, or -1.
	Size int64
	// From says where the archive comes from, for the history.
	From string
}

// Import makes an image of one layer of a root file system in a tar archive,
// plain or compressed.
func (m *Manager) Import(ctx context.Context, r io.Reader, o ImportOptions, progress Progress) (err error) {
	names, err := image.TagNames(o.Reference)
	if err != nil {
		return err
	}
	config := &container.Config{}
	if err := image.ApplyChanges(config, o.Changes); err != nil {
		return err
	}
	p := ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if o.Platform != nil {
		p = *o.Platform
	}
	if p.OS != "linux" {
		return fault.InvalidArgument("cannot import an image for %s: only linux images run here", p.OS)
	}
	st, err := m.store.Stage(ctx, newMeter(untilDone(ctx, r), o.Size, "", "Importing", progress))
	switch {
	case err != nil && notTheLayers(ctx, err):
		return fmt.Errorf("cannot import the archive: %w", err)
	case err != nil:
		return fault.InvalidArgument("cannot import the archive: %w", err)
	}
	defer func() { err = errors.Join(err, st.Discard()) }()
	message := o.Message
	if message == "" {
		message = "Imported from " + o.From
	}
	now := time.Now().UTC()
	raw, err := image.NewConfig(ocispec.Image{
		Created: &now, Platform: p,
		RootFS:  ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{st.DiffID}},
		History: []ocispec.History{{Created: &now, Comment: message}},
	}, config)
	if err != nil {
		return err
	}
	im, err := m.store.Assemble(ctx, image.Draft{Config: raw, Names: names}, stagedSet{st.DiffID: st})
	if err != nil {
		return err
	}
	shown := im.ID
	for _, n := range names {
		shown = reference.FamiliarString(n)
	}
	m.store.Publish(events.ActionImport, im.ID, shown)
	progress(jsonstream.Message{Status: im.ID})
	return nil
}

// ImportURL is Import of an archive that lies at the URL o.From.
func (m *Manager) ImportURL(ctx context.Context, o ImportOptions, progress Progress) error {
	u := o.From
	if !strings.Contains(u, "://") {
		u = "http://" + u
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return fault.InvalidArgument("cannot import from %q: it is no URL of http or https", o.From)
	}
	req.Header.Set("User-Agent", m.o.UserAgent)
	resp, err := m.http.Do(req)
	if err != nil {
		return fault.Unavailable("cannot import from %s: %w", o.From, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fault.Unavailable("cannot import from %s: the server answers %s", o.From, resp.Status)
	}
	progress(jsonstream.Message{Status: "Downloading from " + u})
	o.Size = resp.ContentLength
	return m.Import(ctx, resp.Body, o, progress)
}

// aux packs a value for the aux field of a message.
func aux(v any) *json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil // plain data
	}
	raw := json.RawMessage(b)
	return &raw
}
