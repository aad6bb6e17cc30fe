package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/network"
	"github.com/kelp-engine/kelp/image/transfer"
	"github.com/kelp-engine/kelp/userns/daemonlog"
)

// configFile is the configuration file. Its keys are those of the flags, and
// for networks and registries those of dockerd.
type configFile struct {
	network.Defaults
	DataRoot  string `json:"data-root"`
	Socket    string `json:"socket"`
	LogLevel  string `json:"log-level"`
	LogFormat string `json:"log-format"`
	Debug     bool   `json:"debug"`

	InsecureRegistries []string `json:"insecure-registries"`
}

// maxConfig bounds the configuration file, in bytes.
const maxConfig = 1 << 20

// readConfigFile reads the configuration file at path. A missing one is an
// empty one unless it must exist; an unknown key is an error, for a
// misspelled setting must not be passed over in silence.
func readConfigFile(path string, must bool) (s settings, err error) {
	if path == "" {
		return s, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) && !must {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("cannot read the configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err != nil {
		return s, fmt.Errorf("cannot read the configuration: %w", err)
	}
	if s, err = parseConfig(b); err != nil {
		return s, fault.InvalidArgument("cannot use the configuration file %s: %w", path, err)
	}
	return s, nil
}

func parseConfig(b []byte) (s settings, err error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return s, nil
	}
	var c configFile
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return s, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return s, errors.New("there is more after the JSON object")
	}
	if c.DataRoot != "" && !filepath.IsAbs(c.DataRoot) {
		return s, fmt.Errorf("data-root %q is not an absolute path", c.DataRoot)
	}
	if c.Socket != "" {
		if c.Socket, err = socketPath(c.Socket); err != nil {
			return s, err
		}
		if !filepath.IsAbs(c.Socket) {
			return s, fmt.Errorf("socket %q is not an absolute path", c.Socket)
		}
	}
	if c.Debug {
		if c.LogLevel != "" && c.LogLevel != "debug" {
			return s, fmt.Errorf("debug and log-level %q contradict each other", c.LogLevel)
		}
		c.LogLevel = "debug"
	}
	insecure, err := transfer.ParseInsecure(c.InsecureRegistries)
	if err != nil {
		return s, err
	}
	s = settings{
		DataRoot: filepath.Clean(c.DataRoot), Socket: c.Socket,
		Log: daemonlog.Options{Level: c.LogLevel, Format: c.LogFormat}, Networks: c.Defaults, Insecure: insecure,
	}
	if c.DataRoot == "" {
		s.DataRoot = ""
	}
	if err := c.Defaults.Check(); err != nil {
		return s, err
	}
	return s, checkLog(s.Log)
}
