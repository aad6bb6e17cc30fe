package images

import (
	"archive/tar"
	"encoding/json"
	"io"

	"github.com/opencontainers/go-digest"
)

// Tagged is an image and the references it is saved under.
type Tagged struct {
	*Image
	Refs []string
}

// dockerManifest is one item of manifest.json in a docker archive.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// WriteDockerArchive writes what `docker save` wrote before it took to OCI
// layouts: manifest.json, a configuration and a layer.tar for each layer.
func WriteDockerArchive(w io.Writer, ims ...Tagged) error {
	out := tar.NewWriter(w)
	var manifests []dockerManifest
	seen := map[string]bool{}
	write := func(name string, body []byte) error {
		if seen[name] {
			return nil
		}
		seen[name] = true
		return writeFile(out, name, body)
	}
	for _, im := range ims {
		m := dockerManifest{RepoTags: im.Refs}
		var diffIDs []string
		for _, l := range im.Layers {
			b, err := l.Tar()
			if err != nil {
				return err
			}
			d := digest.FromBytes(b)
			name := d.Encoded() + "/layer.tar"
			diffIDs, m.Layers = append(diffIDs, d.String()), append(m.Layers, name)
			if err := write(name, b); err != nil {
				return err
			}
		}
		config, err := json.Marshal(im.config(diffIDs))
		if err != nil {
			return err
		}
		m.Config = digest.FromBytes(config).Encoded() + ".json"
		if err := write(m.Config, config); err != nil {
			return err
		}
		manifests = append(manifests, m)
	}
	b, err := json.Marshal(manifests)
	if err != nil {
		return err
	}
	if err := write("manifest.json", b); err != nil {
		return err
	}
	return out.Close()
}

func writeFile(w *tar.Writer, name string, body []byte) error {
	e := File(name, 0o644, body)
	e.ModTime = Created
	if err := w.WriteHeader(&e.Header); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}
