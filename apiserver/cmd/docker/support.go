package docker

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli-plugins/manager"
	"github.com/docker/cli/cli/command"
	"github.com/moby/moby/client/pkg/versions"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// server is what the client knows of the server. Asking for it connects.
type server interface {
	CurrentVersion() string
	ServerInfo() command.ServerInfo
}

// Annotations of commands and flags that not every server can serve.
const (
	needsVersion      = "version"
	needsOS           = "ostype"
	needsExperimental = "experimental"
	needsSwarm        = "swarm"
)

// supports refuses a command, or flags that were given to it, that the server
// does not support. It connects only when something is annotated.
func supports(cmd *cobra.Command, s server) error {
	for c := cmd; c != nil; c = c.Parent() {
		if v, ok := c.Annotations[needsVersion]; ok && versions.LessThan(s.CurrentVersion(), v) {
			return fmt.Errorf("%s requires API version %s, but the Docker daemon API version is %s", cmd.CommandPath(), v, s.CurrentVersion())
		}
		if v, ok := c.Annotations[needsOS]; ok && otherOS(s, v) {
			return fmt.Errorf("%s is only supported on a Docker daemon running on %s, but the Docker daemon is running on %s", cmd.CommandPath(), v, s.ServerInfo().OSType)
		}
		if _, ok := c.Annotations[needsExperimental]; ok && !s.ServerInfo().HasExperimental {
			return fmt.Errorf("%s is only supported on a Docker daemon with experimental features enabled", cmd.CommandPath())
		}
	}
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			errs = append(errs, supportsFlag(f, s))
		}
	})
	return errors.Join(errs...)
}

func supportsFlag(f *pflag.Flag, s server) error {
	if v := annotation(f, needsVersion); v != "" && versions.LessThan(s.CurrentVersion(), v) {
		return fmt.Errorf("%q requires API version %s, but the Docker daemon API version is %s", "--"+f.Name, v, s.CurrentVersion())
	}
	if v := annotation(f, needsOS); v != "" && otherOS(s, v) {
		return fmt.Errorf("%q is only supported on a Docker daemon running on %s, but the Docker daemon is running on %s", "--"+f.Name, v, s.ServerInfo().OSType)
	}
	if _, ok := f.Annotations[needsExperimental]; ok && !s.ServerInfo().HasExperimental {
		return fmt.Errorf("%q is only supported on a Docker daemon with experimental features enabled", "--"+f.Name)
	}
	return nil
}

func annotation(f *pflag.Flag, name string) string {
	if v := f.Annotations[name]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// otherOS says whether the server is known to run on another system.
func otherOS(s server, want string) bool {
	got := s.ServerInfo().OSType
	return got != "" && got != want
}

// helpFunc shows help as the client does: plugins are listed, and help about
// one is the plugin's own.
func (d *dockerClient) helpFunc(show func(*cobra.Command, []string)) func(*cobra.Command, []string) {
	return func(cmd *cobra.Command, args []string) {
		root := cmd.Root()
		if err := manager.AddPluginCommandStubs(d, root); err != nil {
			cmd.Println(err)
			return
		}
		if len(args) > 0 {
			err := d.pluginHelp(root, args)
			if err == nil {
				return
			}
			if !errdefs.IsNotFound(err) {
				cmd.Println(err)
				return
			}
		}
		// What to show depends on the server, but help starts none.
		if !d.own {
			hideUnsupported(cmd, d)
		}
		show(cmd, args)
	}
}

func (d *dockerClient) pluginHelp(root *cobra.Command, args []string) error {
	cmd, _, err := root.Traverse(args)
	if err != nil {
		return err
	}
	plugin, err := manager.PluginRunCommand(d, cmd.Name(), root)
	if err != nil {
		return err
	}
	return plugin.Run()
}

// hideUnsupported hides the commands and flags that the server does not
// support.
func hideUnsupported(cmd *cobra.Command, s server) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		f.Hidden = f.Hidden || supportsFlag(f, s) != nil
	})
	for _, sub := range cmd.Commands() {
		if sub.Hidden {
			continue
		}
		v, versioned := sub.Annotations[needsVersion]
		system, ofSystem := sub.Annotations[needsOS]
		_, experimental := sub.Annotations[needsExperimental]
		role, ofSwarm := sub.Annotations[needsSwarm]
		sub.Hidden = versioned && versions.LessThan(s.CurrentVersion(), v) ||
			ofSystem && otherOS(s, system) ||
			experimental && !s.ServerInfo().HasExperimental ||
			ofSwarm && outsideSwarm(s.ServerInfo(), role)
	}
}

// outsideSwarm says whether the server is known not to have the role in a
// swarm that a command needs.
func outsideSwarm(info command.ServerInfo, role string) bool {
	switch {
	case info.SwarmStatus == nil:
		return false
	case role == "manager":
		return !info.SwarmStatus.ControlAvailable
	case role == "active":
		return info.SwarmStatus.NodeState == "inactive"
	}
	return false
}
