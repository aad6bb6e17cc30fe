package cmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/engine/fault"
)

var envCommand = &cli.Command{
	Name:  "env",
	Usage: "start the engine if needed and print shell code that points docker clients to it",
	Description: `   bash, zsh   eval $(kelp env)
   fish        kelp env | source
   csh         eval "` + "`kelp env`" + `"`,
	Flags: append([]cli.Flag{
		&cli.StringFlag{Name: "shell", Usage: "`SHELL` to print code for: bash, zsh, fish or csh", DefaultText: "that of $SHELL"},
		&cli.BoolFlag{Name: "no-start", Usage: "do not start the engine"},
	}, settingsFlags...),
	Before: noArguments,
	Action: func(c *cli.Context) error {
		write, err := shell(c.String("shell"))
		if err != nil {
			return err
		}
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		socket := s.Socket
		if c.Bool("no-start") {
			if r, err := findRunning(c.Context, s); err == nil {
				socket = r.Socket
			} else if !errdefs.IsNotFound(err) {
				return err
			}
		} else if socket, err = ensureStarted(c.Context, s); err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.App.Writer, write("DOCKER_HOST", "unix://"+socket))
		return err
	},
}

// shell returns the function that writes, in the named shell's language, the
// code that sets an environment variable. "" is the shell of $SHELL.
func shell(name string) (func(name, value string) string, error) {
	given := name != ""
	if !given {
		name = filepath.Base(os.Getenv("SHELL"))
	}
	switch name {
	case "fish":
		return fishExport, nil
	case "csh", "tcsh":
		return cshExport, nil
	case "bash", "zsh", "sh", "dash", "ksh":
		return posixExport, nil
	}
	if !given { // none, or an unusual login shell
		return posixExport, nil
	}
	return nil, fault.InvalidArgument("unknown shell %q", name).WithHint("use bash, zsh, fish or csh")
}

// quotePosix quotes by single quotes, between which nothing is special but
// the quote itself.
func quotePosix(value string) string {
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

func posixExport(name, value string) string {
	return fmt.Sprintf("export %s=%s", name, quotePosix(value))
}

// cshExport quotes as for a POSIX shell, and history's character.
func cshExport(name, value string) string {
	return fmt.Sprintf("setenv %s %s;", name, strings.ReplaceAll(quotePosix(value), "!", `'\!'`))
}

func fishExport(name, value string) string {
	return fmt.Sprintf("set -gx %s '%s';", name, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
}
