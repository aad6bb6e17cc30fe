package cmd

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/apiserver/cmd/doctor"
	"github.com/kelp-engine/kelp/userns/rundir"
)

var doctorCommand = &cli.Command{
	Name:        "doctor",
	Usage:       "check what kelp needs of this machine, and say what to do",
	Description: "The exit code is 1 when something fails. A warning is for what kelp runs without, with less.",
	Flags:       append([]cli.Flag{jsonFlag}, placeFlags...),
	Before:      noArguments,
	Action: func(c *cli.Context) error {
		s, err := configuredSettings(c)
		if err != nil {
			return err
		}
		runtimeDir, runtimeErr := rundir.Runtime()
		results := doctor.Check(doctor.Gather(c.Context, s.DataRoot, runtimeDir, runtimeErr))
		failed := doctor.Failed(results)
		if c.Bool("json") {
			err = printJSON(c, struct {
				OK     bool            `json:"ok"`
				Checks []doctor.Result `json:"checks"`
			}{!failed, results})
		} else {
			err = printDiagnosis(c.App.Writer, results)
		}
		if err == nil && failed {
			err = exitCode(1)
		}
		return err
	},
}

func printDiagnosis(w io.Writer, results []doctor.Result) error {
	var b strings.Builder
	for _, r := range results {
		fmt.Fprintf(&b, "%s  %-18s %s\n", r.Status, r.Name, r.Detail)
		if r.Remedy != "" {
			fmt.Fprintf(&b, "      %-18s %s\n", "", "→ "+strings.ReplaceAll(r.Remedy, "\n", "\n"+strings.Repeat(" ", 27)))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
