package container

import (
	"path"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// Log drivers, and their files below the container's directory.
const (
	jsonFile  = "json-file"
	localLog  = "local"
	noLog     = "none"
	localFile = "local.log"
)

// logDefaults are the options that a driver has when the client gives none.
var logDefaults = map[string]keeper.Log{
	jsonFile: {Driver: jsonFile, MaxFile: 1},
	localLog: {Driver: localLog, MaxSize: 20 << 20, MaxFile: 5, Compress: true},
	noLog:    {Driver: noLog},
}

// lossyBuffer is how much output a log in non-blocking mode keeps in memory
// when the client does not say.
const lossyBuffer = 1 << 20

// logTarget says where the keeper keeps the container's output, or what is
// wrong with what the client asked for. dir is the container's directory.
func logTarget(r *Record, dir string) (keeper.Log, error) {
	c := r.HostConfig.LogConfig
	l, ok := logDefaults[c.Type]
	if !ok {
		return l, fault.InvalidArgument("logger: no log driver named '%s' is registered", c.Type).
			WithHint("kelp has json-file, local and none")
	}
	switch c.Type {
	case jsonFile:
		l.Path = path.Join(dir, r.ID+"-json.log")
	case localLog:
		l.Path = path.Join(dir, localFile)
	case noLog:
		if len(c.Config) > 0 {
			return l, fault.InvalidArgument("log driver none takes no options")
		}
		return l, nil
	}
	for key, value := range c.Config {
		if err := setLogOption(&l, r, key, value); err != nil {
			return l, err
		}
	}
	if l.MaxFile > 1 && l.MaxSize <= 0 && c.Config["max-file"] != "" {
		return l, fault.InvalidArgument("max-file option requires max-size to be set")
	}
	if l.Compress && c.Config["compress"] != "" && (l.MaxFile < 2 || l.MaxSize <= 0) {
		return l, fault.InvalidArgument("compress cannot be true when max-file is less than 2 or max-size is not set")
	}
	return l, nil
}

// setLogOption reads one of the client's log options.
func setLogOption(l *keeper.Log, r *Record, key, value string) (err error) {
	bad := func() error { return fault.InvalidArgument("invalid value for %s: %q", key, value) }
	switch key {
	case "max-size":
		if value == "-1" {
			l.MaxSize = 0
			return nil
		}
		if l.MaxSize, err = units.RAMInBytes(value); err != nil || l.MaxSize <= 0 {
			return bad()
		}
	case "max-file":
		if l.MaxFile, err = strconv.Atoi(value); err != nil || l.MaxFile < 1 {
			return bad()
		}
	case "compress":
		if l.Compress, err = strconv.ParseBool(value); err != nil {
			return bad()
		}
	case "mode":
		switch container.LogMode(value) {
		case container.LogModeBlocking, container.LogModeUnset:
		case container.LogModeNonBlock:
			if l.Buffer == 0 {
				l.Buffer = lossyBuffer
			}
		default:
			return bad()
		}
	case "max-buffer-size":
		if r.HostConfig.LogConfig.Config["mode"] != string(container.LogModeNonBlock) {
			return fault.InvalidArgument("max-buffer-size option is only supported with 'mode=%s'", container.LogModeNonBlock)
		}
		if l.Buffer, err = units.RAMInBytes(value); err != nil || l.Buffer <= 0 {
			return bad()
		}
	case "labels", "labels-regex", "env", "env-regex", "tag":
		if l.Driver != jsonFile && key != "tag" {
			return fault.InvalidArgument("unknown log opt '%s' for %s log driver", key, l.Driver)
		}
		return addLogAttrs(l, r, key, value)
	default:
		return fault.InvalidArgument("unknown log opt '%s' for %s log driver", key, l.Driver)
	}
	return nil
}

// addLogAttrs picks what every log entry carries of the container.
func addLogAttrs(l *keeper.Log, r *Record, key, value string) error {
	if value == "" {
		return nil
	}
	if l.Attrs == nil {
		l.Attrs = map[string]string{}
	}
	if key == "tag" {
		var text strings.Builder
		t, err := template.New("tag").Parse(value)
		if err == nil {
			err = t.Execute(&text, newLogInfo(r))
		}
		if err != nil {
			return fault.InvalidArgument("invalid log tag %q: %w", value, err)
		}
		l.Attrs["tag"] = text.String()
		return nil
	}
	have := r.Config.Labels
	if strings.HasPrefix(key, "env") {
		have = map[string]string{}
		for _, kv := range r.Config.Env {
			if k, v, ok := strings.Cut(kv, "="); ok {
				have[k] = v
			}
		}
	}
	wanted := func(name string) bool {
		for w := range strings.SplitSeq(value, ",") {
			if w == name {
				return true
			}
		}
		return false
	}
	if strings.HasSuffix(key, "-regex") {
		re, err := regexp.Compile(value)
		if err != nil {
			return fault.InvalidArgument("invalid value for %s: %w", key, err)
		}
		wanted = re.MatchString
	}
	for name, v := range have {
		if wanted(name) {
			l.Attrs[name] = v
		}
	}
	return nil
}

// logInfo is what the template of a log tag can use.
type logInfo struct {
	ID, FullID, Name, ImageID, ImageFullID, ImageName, DaemonName string
}

func newLogInfo(r *Record) logInfo {
	image := strings.TrimPrefix(r.Image, "sha256:")
	return logInfo{
		ID: r.ID[:12], FullID: r.ID, Name: r.Name,
		ImageID: image[:min(12, len(image))], ImageFullID: r.Image, ImageName: r.Config.Image,
		DaemonName: "kelp",
	}
}
