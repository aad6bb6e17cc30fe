// Package docker is the docker client, github.com/docker/cli, as a part of
// kelp: for machines that have no docker client of their own.
//
// It must not differ from that client but in one thing: where the client
// would use its built-in default address, it uses kelp's socket, unless it is
// in a container that was given that socket there.
package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/command/commands"
	"github.com/docker/cli/cli/version"
	"github.com/moby/moby/client"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Options of Main.
type Options struct {
	// Args are the client's arguments, without a program name.
	Args []string
	// Program is a path by which plugins execute this client again.
	Program string
	// Start makes kelp serve and returns its socket's path. It is called at
	// most once, and only when kelp is the server.
	Start func(context.Context) (socket string, err error)
	// Socket is where kelp serves if it runs.
	Socket string
	// Version is kelp's.
	Version string
}

// exitSignals is how many signals to end the client it takes to end one that
// does not react to the first.
const exitSignals = 3

// Main runs the client and returns its exit code.
func Main(o Options) int {
	// Plugins and the client's library look at the program's arguments.
	os.Args = append([]string{o.Program}, o.Args...)
	version.Version, version.PlatformName = moduleVersion("github.com/docker/cli"), "kelp "+o.Version
	version.GitCommit, version.BuildTime = "", ""

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := command.NewDockerCli(command.WithBaseContext(ctx))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	logrus.SetOutput(c.Err())
	ended := endAtSignals(cancel, c)

	err = (&dockerClient{DockerCli: c, start: o.Start, socket: o.Socket}).run(ctx)
	if sig := ended.Load(); sig != 0 && err != nil {
		return 128 + int(sig)
	}
	return report(err)
}

// report prints an error and returns the exit code that goes with it.
func report(err error) int {
	if err == nil || errdefs.IsCanceled(err) {
		return 0
	}
	if err.Error() != "" {
		fmt.Fprintln(os.Stderr, err)
	}
	if status, ok := errors.AsType[cli.StatusError](err); ok && status.StatusCode != 0 {
		return status.StatusCode
	}
	return 1
}

// endAtSignals calls cancel at the first signal to end the client, which the
// result then holds, and ends the program at the last.
func endAtSignals(cancel func(), streams command.Streams) *atomic.Int32 {
	var first atomic.Int32
	signals := make(chan os.Signal, exitSignals)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		sig := <-signals
		first.Store(int32(sig.(syscall.Signal)))
		cancel()
		for range exitSignals - 1 {
			<-signals
		}
		streams.In().RestoreTerminal()
		streams.Out().RestoreTerminal()
		os.Exit(1)
	}()
	return &first
}

// moduleVersion is the version of a module that kelp is built from.
func moduleVersion(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return strings.TrimPrefix(strings.TrimSuffix(m.Version, "+incompatible"), "v")
			}
		}
	}
	return "unknown"
}

// dockerClient is one run of the client.
type dockerClient struct {
	*command.DockerCli
	start  func(context.Context) (string, error)
	socket string
	own    bool // kelp is the server, and not known to serve yet
}

func (d *dockerClient) run(ctx context.Context) error {
	root := d.rootCommand()
	opts, help := cli.SetupRootCommand(root)
	root.SetHelpCommand(help)
	root.SetHelpFunc(d.helpFunc(root.HelpFunc()))
	root.Flags().BoolP("version", "v", false, "Print version information and quit")
	commands.AddCommands(root, d.DockerCli)

	top := cli.NewTopLevelCommand(root, d.DockerCli, opts, root.Flags())
	_, args, err := top.HandleGlobalFlags()
	if err != nil {
		return err
	}
	if err := top.Initialize(); err != nil {
		return err
	}
	d.own = len(opts.Hosts) == 0 && os.Getenv(client.EnvOverrideHost) == "" &&
		slices.Contains([]string{command.DefaultContextName, ContextName}, d.CurrentContext()) && !inContainer()
	return d.dispatch(ctx, root, args)
}

// inContainer says whether the client's built-in default address is right after
// all: a container may have been given the user's socket, for its root, who
// has no kelp of his own, or for whoever the user is there.
func inContainer() bool {
	var st unix.Stat_t
	err := unix.Stat(strings.TrimPrefix(client.DefaultDockerHost, "unix://"), &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK && (os.Geteuid() == 0 || int(st.Uid) == os.Geteuid())
}

func (d *dockerClient) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:              "docker [OPTIONS] COMMAND [ARG...]",
		Short:            "The docker client that is part of kelp",
		SilenceUsage:     true,
		SilenceErrors:    true,
		TraverseChildren: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return command.ShowHelp(d.Err())(cmd, args)
			}
			return fmt.Errorf("docker: unknown command: docker %s\n\nRun 'docker --help' for more information", args[0])
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.ensureStarted(cmd.Context(), topLevel(cmd)); err != nil {
				return err
			}
			return supports(cmd, d)
		},
		Version:               version.Version + ", part of " + version.PlatformName,
		DisableFlagsInUseLine: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.SetIn(d.In())
	root.SetOut(d.Out())
	root.SetErr(d.Err())
	return root
}

// topLevel is the name of the command right below docker that cmd belongs to.
func topLevel(cmd *cobra.Command) string {
	for cmd.HasParent() && cmd.Parent().HasParent() {
		cmd = cmd.Parent()
	}
	return cmd.Name()
}

// ensureStarted makes kelp serve, when it is the server, for a command that
// speaks to one.
func (d *dockerClient) ensureStarted(ctx context.Context, name string) error {
	if !d.own {
		return nil
	}
	switch name {
	case "help", "context", "completion":
		return nil
	}
	d.own = false
	socket, err := d.start(ctx)
	if err != nil {
		return err
	}
	return d.connectTo(socket)
}

// connectTo makes kelp's socket the default address of this client, which has
// not connected yet, and of the plugins that it executes.
func (d *dockerClient) connectTo(socket string) error {
	return os.Setenv(client.EnvOverrideHost, "unix://"+socket)
}
