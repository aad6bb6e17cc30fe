package images

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Push uploads the manifest d and all that it names to a registry that asks
// for no credentials, e.g. Push(ctx, "http://127.0.0.1:5000", "app", "1", d).
func (l *Layout) Push(ctx context.Context, base, repository, tag string, d ocispec.Descriptor) error {
	body := l.Blobs[d.Digest]
	if d.MediaType == ocispec.MediaTypeImageIndex {
		var index ocispec.Index
		if err := json.Unmarshal(body, &index); err != nil {
			return err
		}
		for _, m := range index.Manifests {
			if err := l.Push(ctx, base, repository, m.Digest.String(), m); err != nil {
				return err
			}
		}
	} else {
		var m ocispec.Manifest
		if err := json.Unmarshal(body, &m); err != nil {
			return err
		}
		for _, b := range append(m.Layers, m.Config) {
			if err := l.pushBlob(ctx, base, repository, b.Digest); err != nil {
				return err
			}
		}
	}
	_, err := send(ctx, http.MethodPut, base+"/v2/"+repository+"/manifests/"+tag, d.MediaType, body)
	return err
}

func (l *Layout) pushBlob(ctx context.Context, base, repository string, d digest.Digest) error {
	at, err := send(ctx, http.MethodPost, base+"/v2/"+repository+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	u, err := url.Parse(at)
	if err != nil {
		return err
	}
	q := u.Query()
	q.Set("digest", d.String())
	u.RawQuery = q.Encode()
	_, err = send(ctx, http.MethodPut, u.String(), "application/octet-stream", l.Blobs[d])
	return err
}

// send makes one request and returns the Location it answers with.
func send(ctx context.Context, method, at, contentType string, body []byte) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return "", fmt.Errorf("%s %s: %s: %s", method, at, resp.Status, text)
	}
	if resp.Header.Get("Location") == "" {
		return "", nil
	}
	location, err := resp.Location()
	if err != nil {
		return "", err
	}
	return location.String(), nil
}
