package demo

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"github.com/kelp-engine/kelp/engine/fault"
)

// Image is the reference that the embedded image is loaded as.
const Image = "kelp-demo:latest"

//go:embed bin
var bin embed.FS

// archive returns the demo's image as `docker load` reads it: one layer with
// one program.
func archive() ([]byte, error) {
	program, err := bin.ReadFile("bin/greeter")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.NotFound("this kelp was built without its demo").WithHint("build it with 'make'")
	}
	if err != nil {
		return nil, err
	}
	layer, err := pack(file{"greeter", 0o755, program})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"os":           "linux",
		"architecture": runtime.GOARCH,
		"config":       map[string]any{"Entrypoint": []string{"/greeter"}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": "config.json", "RepoTags": []string{Image}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return nil, err
	}
	return pack(file{"layer.tar", 0o644, layer}, file{"config.json", 0o644, config}, file{"manifest.json", 0o644, manifest})
}

type file struct {
	name    string
	mode    int64
	content []byte
}

func pack(files ...file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.content))}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("cannot pack %s: %w", f.name, err)
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, fmt.Errorf("cannot pack %s: %w", f.name, err)
		}
	}
	return b.Bytes(), w.Close()
}
