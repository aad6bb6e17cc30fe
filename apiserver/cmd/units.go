package cmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns/rundir"
)

// Names of the systemd user units.
const (
	serviceUnit = "kelp.service"
	socketUnit  = "kelp.socket"
)

// unitMark is the first line of the units that 'kelp install' writes. Others
// of the same name are somebody's own and left alone.
const unitMark = "# Made by 'kelp install'; 'kelp uninstall' removes it.\n"

// units returns the units' content by name. xdgRuntime is $XDG_RUNTIME_DIR.
func units(self string, s settings, xdgRuntime string) map[string]string {
	socket := unitEscape(s.Socket)
	if rest, ok := strings.CutPrefix(s.Socket, xdgRuntime+"/"); ok && xdgRuntime != "" {
		socket = "%t/" + unitEscape(rest) // the same, also after the next login
	}
	flags := []string{"--data-root", s.DataRoot, "--socket", s.Socket}
	if s.Log.Level != "" {
		flags = append(flags, "--log-level", s.Log.Level)
	}
	if s.Log.Format != "" {
		flags = append(flags, "--log-format", s.Log.Format)
	}
	command := func(name string) string {
		words := append([]string{self, name}, flags...)
		for i, word := range words {
			words[i] = unitQuote(word)
		}
		return strings.Join(words, " ")
	}
	return map[string]string{
		socketUnit: unitMark + fmt.Sprintf(`[Unit]
Description=Docker Engine API of kelp

[Socket]
ListenStream=%s
SocketMode=0600
DirectoryMode=0700

[Install]
WantedBy=sockets.target
`, socket),
		serviceUnit: unitMark + fmt.Sprintf(`[Unit]
Description=kelp, a container engine that needs no root
Requires=kelp.socket
After=kelp.socket

[Service]
# The keeper says when the engine serves.
Type=notify
NotifyAccess=all
ExecStart=%s
# Another engine, with the configuration file as it is now; containers run on.
ExecReload=%s
# Containers get cgroups of their own, with limits.
Delegate=yes
# The keeper stops all containers; what is left then is killed.
KillMode=mixed
# A container that runs out of its own memory is no failure of kelp's.
OOMPolicy=continue
TimeoutStopSec=90
Restart=on-failure
TasksMax=infinity

[Install]
WantedBy=default.target
`, command("daemon"), command("restart")),
	}
}

// unitEscape makes a path free of systemd's specifiers.
func unitEscape(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// unitQuote quotes an argument for a command line in a unit, in which systemd
// replaces variables as well.
func unitQuote(arg string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", "$$", "%", "%%").Replace(arg) + `"`
}

// unitDir is where the user's own units are.
func unitDir() (string, error) {
	config := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(config) {
		home := rundir.Home()
		if home == "" {
			return "", fault.InvalidArgument("cannot choose where to write units: HOME is not set")
		}
		config = filepath.Join(home, ".config")
	}
	return filepath.Join(config, "systemd", "user"), nil
}

// checkUnit refuses a unit that kelp did not write.
func checkUnit(path string) (content string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(string(b), unitMark) {
		return "", fault.Conflict("%s was not made by kelp", path).WithHint("remove it yourself if it may go")
	}
	return string(b), nil
}
