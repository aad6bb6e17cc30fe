package image

import (
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
)

// FuzzApplyChanges feeds anything as Dockerfile instructions.
func FuzzApplyChanges(f *testing.F) {
	for _, text := range []string{
		`CMD ["a", "b"]`, "ENV a=b c='d e'", `LABEL "x"="y z"`, "EXPOSE 80-82/udp 443", "HEALTHCHECK --interval=1s --retries=3 CMD true",
		"VOLUME /a /b", "WORKDIR x", "ONBUILD RUN x", "USER 1:2", "STOPSIGNAL TERM", "ENTRYPOINT x y",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c container.Config
		if ApplyChanges(&c, []string{text}) != nil {
			return
		}
		for _, kv := range c.Env {
			if !strings.Contains(kv, "=") {
				t.Errorf("variable %q", kv)
			}
		}
		if c.WorkingDir != "" && !strings.HasPrefix(c.WorkingDir, "/") {
			t.Errorf("working directory %q", c.WorkingDir)
		}
	})
}

// FuzzParseConfig feeds anything as a configuration document.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("a", 64) + `"]},"config":{"StopTimeout":3,"ExposedPorts":{"80/tcp":{}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := parseConfig(raw)
		if err != nil {
			return
		}
		for i := range d.RootFS.DiffIDs {
			if len(chainLayer(d.RootFS.DiffIDs[:i+1])) != 64 {
				t.Errorf("layer %d has no id", i)
			}
		}
		_, _ = (&Image{Config: d.Config, StopTimeout: d.stopTimeout}).ContainerConfig()
	})
}
