package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli-plugins/manager"
	"github.com/docker/cli/cli-plugins/metadata"
	"github.com/docker/cli/cli-plugins/socket"
	"github.com/spf13/cobra"
)

// builder is the plugin that builds images, unless the client's configuration
// names another.
const builder = "buildx"

// dispatch runs the command that args name: one of the client's own, or else
// a plugin.
func (d *dockerClient) dispatch(ctx context.Context, root *cobra.Command, args []string) error {
	if len(args) == 0 {
		root.SetArgs(args)
		return root.ExecuteContext(ctx)
	}
	if args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd {
		return d.complete(ctx, root, args)
	}
	if args[0] == "help" && len(args) > 1 {
		if plugin, err := manager.PluginRunCommand(d, args[1], root); err == nil {
			return plugin.Run()
		}
	}
	args, env, err := d.buildWithPlugin(root, args)
	if err != nil {
		return err
	}
	cmd, _, err := root.Find(args)
	if err != nil || manager.IsPluginCommand(cmd) {
		err := d.runPlugin(ctx, root, args[0], env)
		if !errdefs.IsNotFound(err) {
			return err
		}
	}
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// complete answers a shell that completes a command line. It starts nothing.
func (d *dockerClient) complete(ctx context.Context, root *cobra.Command, args []string) error {
	if d.own {
		d.own = false
		if err := d.connectTo(d.socket); err != nil {
			return err
		}
	}
	if err := manager.AddPluginCommandStubs(d, root); err != nil {
		return err
	}
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// builds are the commands that the builder's plugin serves in the client's
// stead, and its own names for them.
var builds = []struct{ own, plugin []string }{
	{[]string{"build"}, []string{"build"}},
	{[]string{"image", "build"}, []string{"build"}},
	{[]string{"bake"}, []string{"bake"}},
	{[]string{"builder"}, nil},
}

// buildWithPlugin turns a command that builds into one of the builder's
// plugin, where that is installed and the user has not asked otherwise. env
// is for the plugin.
func (d *dockerClient) buildWithPlugin(root *cobra.Command, args []string) (_, env []string, _ error) {
	plugin, named := d.ConfigFile().Aliases["builder"]
	if !named {
		plugin = builder
	}
	for _, b := range builds {
		if len(args) < len(b.own) || !slices.Equal(args[:len(b.own)], b.own) {
			continue
		}
		wanted, err := wantsBuildKit()
		if err != nil || !wanted && args[0] != "bake" {
			return args, nil, err
		}
		found, err := manager.GetPlugin(plugin, d, root)
		if err == nil && found.Err != nil {
			err = found.Err
		}
		if err != nil {
			if named || args[0] == "bake" {
				return args, nil, fmt.Errorf("cannot build with the plugin docker-%s: %w", plugin, err)
			}
			return args, nil, nil
		}
		if !named && os.Getenv("BUILDX_BUILDER") == "" && !slices.Contains(args, "--builder") {
			env = []string{"BUILDX_BUILDER=" + d.CurrentContext()} // builds where containers run
		}
		forwarded := slices.Concat([]string{plugin}, b.plugin, args[len(b.own):])
		// The plugin gets the program's arguments, which still have the
		// client's global flags in front.
		global := os.Args[:len(os.Args)-len(args)]
		os.Args = slices.Concat(global, forwarded)
		if len(b.own) > 1 || b.plugin == nil {
			root.Annotations[metadata.CommandAnnotationPluginCommandPath] = root.CommandPath() + " " + b.own[0]
		}
		return forwarded, env, nil
	}
	return args, nil, nil
}

// wantsBuildKit reads DOCKER_BUILDKIT: unset means yes.
func wantsBuildKit() (bool, error) {
	v := os.Getenv("DOCKER_BUILDKIT")
	if v == "" {
		return true, nil
	}
	wanted, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("DOCKER_BUILDKIT has to be a boolean: %w", err)
	}
	return wanted, nil
}

// runPlugin executes a plugin to its end. There being none of the name is
// errdefs.ErrNotFound.
func (d *dockerClient) runPlugin(ctx context.Context, root *cobra.Command, name string, env []string) error {
	if _, err := manager.GetPlugin(name, d, root); err != nil {
		return err
	}
	if err := d.ensureStarted(ctx, name); err != nil {
		return err
	}
	cmd, err := manager.PluginRunCommand(d, name, root)
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, env...)
	// A plugin ends itself when this connection does.
	if server, err := socket.NewPluginServer(nil); err == nil {
		defer server.Close()
		cmd.Env = append(cmd.Env, socket.EnvKey+"="+server.Addr().String())
		// On a terminal the kernel tells both of a ^C.
		if !d.Out().IsTerminal() {
			stop := context.AfterFunc(ctx, func() { server.Close() })
			defer stop()
		}
	}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return cli.StatusError{StatusCode: max(exit.ExitCode(), 1)}
	}
	return err
}
