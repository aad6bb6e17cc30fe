// Package ps describes processes as the ps program does, from /proc.
//
// It must not start that program: a host need not have it, and its arguments
// come from clients.
package ps

import (
	"slices"
	"strings"

	"github.com/kelp-engine/kelp/engine/fault"
)

// Format is the columns of a list of processes.
type Format struct {
	columns []column
}

type column struct {
	title string
	value func(*process) string
}

// formats of ps's options that choose columns. COMMAND and CMD come last: they
// alone have blanks in them.
var (
	full = []string{"user:UID", "pid", "ppid", "c", "stime", "tty", "time", "args:CMD"}
	long = []string{"user", "pid", "pcpu", "pmem", "vsz", "rss", "tty:TTY", "stat", "start", "bsdtime", "args:COMMAND"}
	base = []string{"pid", "tty", "time", "comm:CMD"}
)

// Parse reads arguments of ps that list processes: those that choose which
// are no use here, where it is the container's, and pass.
func Parse(args []string) (*Format, error) {
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	names, custom := base, []string(nil)
	for len(args) > 0 {
		arg, list := args[0], ""
		args = args[1:]
		flags, bare := strings.CutPrefix(arg, "-")
		if long, ok := strings.CutPrefix(arg, "--format"); ok {
			flags, list = "o", strings.TrimPrefix(long, "=")
		} else if i := strings.IndexByte(flags, 'o'); i >= 0 { // as in -eo pid,args
			flags, list = flags[:i+1], flags[i+1:]
		}
		if strings.Trim(flags, "eAafwFuxo") != "" {
			return nil, fault.InvalidArgument("ps: the option %q is not offered", arg).
				WithHint("use -ef, aux, or -o with the names of columns such as pid,user,args")
		}
		switch {
		case strings.HasSuffix(flags, "o") && list == "" && len(args) == 0:
			return nil, fault.InvalidArgument("ps: %s needs the names of columns", arg)
		case strings.HasSuffix(flags, "o") && list == "":
			list, args = args[0], args[1:]
			fallthrough
		case strings.HasSuffix(flags, "o"):
			custom = append(custom, split(list)...)
		case !bare && strings.Contains(flags, "u"):
			names = long
		case bare && strings.ContainsAny(flags, "fF"):
			names = full
		}
	}
	if custom != nil {
		names = custom
	}
	return newFormat(names)
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// newFormat looks columns up; "name:TITLE" and "name=TITLE" give one a title.
func newFormat(names []string) (*Format, error) {
	f := &Format{}
	for _, n := range names {
		name, title := n, ""
		if i := strings.IndexAny(n, ":="); i >= 0 {
			name, title = n[:i], n[i+1:]
		}
		c, ok := columns[strings.ToLower(name)]
		if !ok {
			return nil, fault.InvalidArgument("ps: there is no column %q", name)
		}
		if title != "" {
			c.title = title
		}
		f.columns = append(f.columns, c)
	}
	return f, nil
}

// Titles of the columns.
func (f *Format) Titles() []string {
	titles := make([]string, len(f.columns))
	for i, c := range f.columns {
		titles[i] = c.title
	}
	return titles
}

// Rows describes the processes, leaving out those that are gone.
func (f *Format) Rows(pids []int) ([][]string, error) {
	sys, err := readSystem()
	if err != nil {
		return nil, err
	}
	rows := [][]string{}
	for _, pid := range pids {
		p, ok := sys.read(pid)
		if !ok {
			continue
		}
		row := make([]string, len(f.columns))
		for i, c := range f.columns {
			row[i] = c.value(p)
		}
		rows = append(rows, row)
	}
	return slices.Clip(rows), nil
}
