package cmd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/network"
	"github.com/kelp-engine/kelp/image/transfer"
	"github.com/kelp-engine/kelp/userns/daemonlog"
	"github.com/kelp-engine/kelp/userns/rundir"
)

// settings are where one kelp keeps its things and how it speaks.
type settings struct {
	DataRoot   string            `json:"data_root"`
	RuntimeDir string            `json:"runtime_dir"`
	Socket     string            `json:"socket"`
	Log        daemonlog.Options `json:"log"`
	Networks   network.Defaults  `json:"networks,omitzero"`
	// Insecure are registries that need no TLS.
	Insecure transfer.Insecure `json:"insecure,omitzero"`
	// dataRootGiven and socketGiven say that the user chose them.
	dataRootGiven, socketGiven bool
	// reload is engine.Config's.
	reload int64
}

// Names of the flags that are also keys of the configuration file.
const (
	dataRootFlag  = "data-root"
	socketFlag    = "socket"
	logLevelFlag  = "log-level"
	logFormatFlag = "log-format"
	insecureFlag  = "insecure-registry"
	debugFlag     = "debug"
	configFlag    = "config"
)

// placeFlags say which kelp is meant; every command that speaks to one has
// them.
var placeFlags = []cli.Flag{
	&cli.StringFlag{Name: configFlag, Usage: "read the configuration `FILE`", DefaultText: "~/.config/kelp/config.json"},
	&cli.StringFlag{Name: dataRootFlag, Usage: "`DIR` for images, containers and volumes", DefaultText: "~/.local/share/kelp"},
	&cli.StringFlag{Name: socketFlag, Aliases: []string{"H"}, Usage: "`PATH` of the Engine API socket, also as unix://PATH", DefaultText: "docker.sock in the runtime directory"},
}

// settingsFlags are those of the commands that may start the engine.
var settingsFlags = append(
	slices.Clone(placeFlags),
	&cli.StringFlag{Name: logLevelFlag, Usage: "`LEVEL` of what is logged: debug, info, warn or error", DefaultText: "info"},
	&cli.StringFlag{Name: logFormatFlag, Usage: "`FORMAT` of the log: text or json", DefaultText: "text"},
	&cli.StringSliceFlag{Name: insecureFlag, Usage: "speak to `REGISTRY`, HOST[:PORT] or a network ADDRESS/BITS, also without TLS"},
	&cli.BoolFlag{Name: debugFlag, Usage: "the same as --log-level debug"},
)

// readSettings decides the settings: a flag beats the configuration file,
// which beats the default. The runtime directory is made when missing.
func readSettings(c *cli.Context) (settings, error) {
	if err := refuseRoot(); err != nil {
		return settings{}, err
	}
	s, err := configuredSettings(c)
	if err != nil {
		return settings{}, err
	}
	if s.RuntimeDir, err = rundir.Runtime(); err != nil {
		return settings{}, err
	}
	if s.socketGiven = s.Socket != ""; !s.socketGiven {
		s.Socket = filepath.Join(s.RuntimeDir, rundir.APISocket)
	}
	return s, rundir.CheckSocketPath(s.Socket)
}

// configuredSettings are the settings but for those that depend on the
// runtime directory.
func configuredSettings(c *cli.Context) (settings, error) {
	path, must := rundir.Config(), false
	if c.IsSet(configFlag) {
		path, must = c.String(configFlag), true
	}
	s, err := readConfigFile(path, must)
	if err != nil {
		return s, err
	}
	if err := applyFlags(c, &s); err != nil {
		return s, err
	}
	if s.dataRootGiven = s.DataRoot != ""; !s.dataRootGiven {
		s.DataRoot, err = rundir.Data()
	}
	return s, err
}

func applyFlags(c *cli.Context, s *settings) (err error) {
	if c.IsSet(dataRootFlag) {
		if c.String(dataRootFlag) == "" {
			return fault.InvalidArgument("--data-root is empty")
		}
		if s.DataRoot, err = filepath.Abs(c.String(dataRootFlag)); err != nil {
			return err
		}
	}
	if c.IsSet(socketFlag) {
		path, err := socketPath(c.String(socketFlag))
		if err != nil {
			return err
		}
		if s.Socket, err = filepath.Abs(path); err != nil {
			return err
		}
	}
	if c.IsSet(insecureFlag) {
		if s.Insecure, err = transfer.ParseInsecure(c.StringSlice(insecureFlag)); err != nil {
			return err
		}
	}
	if c.IsSet(logFormatFlag) {
		s.Log.Format = c.String(logFormatFlag)
	}
	switch level := c.String(logLevelFlag); {
	case c.Bool(debugFlag) && level != "" && level != "debug":
		return fault.InvalidArgument("--debug and --log-level %s contradict each other", level)
	case c.Bool(debugFlag):
		s.Log.Level = "debug"
	case level != "":
		s.Log.Level = level
	}
	return checkLog(s.Log)
}

func checkLog(o daemonlog.Options) error {
	if o.Level != "" && !slices.Contains(daemonlog.Levels, o.Level) {
		return fault.InvalidArgument("unknown log level %q", o.Level).WithHint("use %s", strings.Join(daemonlog.Levels, ", "))
	}
	if o.Format != "" && !slices.Contains(daemonlog.Formats, o.Format) {
		return fault.InvalidArgument("unknown log format %q", o.Format).WithHint("use %s", strings.Join(daemonlog.Formats, " or "))
	}
	return nil
}

// socketPath reads the value of --socket: a path, or unix:// and a path.
func socketPath(value string) (string, error) {
	path, _ := strings.CutPrefix(value, "unix://")
	switch {
	case path == "":
		return "", fault.InvalidArgument("--socket is empty")
	case strings.Contains(path, "://"):
		return "", fault.InvalidArgument("cannot listen on %s: kelp serves a unix socket only", value).
			WithHint("give a path, or unix:// and a path")
	}
	return path, nil
}

// refuseRoot is for every command that makes or uses an engine.
func refuseRoot() error {
	if os.Geteuid() != 0 {
		return nil
	}
	return fault.PermissionDenied("kelp is not for root: what it is for is to run containers without").
		WithHint("run it as an ordinary user, for example with: su - USER")
}
