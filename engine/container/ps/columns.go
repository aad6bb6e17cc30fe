package ps

import (
	"fmt"
	"strconv"
	"time"
)

// columns by the names that -o takes.
var columns = map[string]column{
	"pid":     {"PID", func(p *process) string { return strconv.Itoa(p.pid) }},
	"ppid":    {"PPID", func(p *process) string { return strconv.Itoa(p.ppid) }},
	"pgid":    {"PGID", func(p *process) string { return strconv.Itoa(p.pgid) }},
	"sid":     {"SID", func(p *process) string { return strconv.Itoa(p.sid) }},
	"sess":    {"SESS", func(p *process) string { return strconv.Itoa(p.sid) }},
	"uid":     {"UID", func(p *process) string { return strconv.FormatUint(uint64(p.uid), 10) }},
	"gid":     {"GID", func(p *process) string { return strconv.FormatUint(uint64(p.gid), 10) }},
	"user":    {"USER", func(p *process) string { return p.user }},
	"euser":   {"EUSER", func(p *process) string { return p.user }},
	"stat":    {"STAT", func(p *process) string { return p.state }},
	"state":   {"S", func(p *process) string { return p.state[:1] }},
	"s":       {"S", func(p *process) string { return p.state[:1] }},
	"tty":     {"TTY", func(p *process) string { return p.tty }},
	"tt":      {"TT", func(p *process) string { return p.tty }},
	"nice":    {"NI", func(p *process) string { return strconv.Itoa(p.nice) }},
	"ni":      {"NI", func(p *process) string { return strconv.Itoa(p.nice) }},
	"nlwp":    {"NLWP", func(p *process) string { return strconv.Itoa(p.threads) }},
	"comm":    {"COMMAND", func(p *process) string { return p.comm }},
	"args":    {"COMMAND", func(p *process) string { return p.args }},
	"cmd":     {"CMD", func(p *process) string { return p.args }},
	"command": {"COMMAND", func(p *process) string { return p.args }},
	"time":    {"TIME", func(p *process) string { return cpuTime(p.cpu) }},
	"cputime": {"TIME", func(p *process) string { return cpuTime(p.cpu) }},
	"bsdtime": {"TIME", func(p *process) string { return bsdTime(p.cpu) }},
	"etime":   {"ELAPSED", func(p *process) string { return elapsed(p.sys.now.Sub(p.started)) }},
	"etimes":  {"ELAPSED", func(p *process) string { return strconv.Itoa(int(p.sys.now.Sub(p.started).Seconds())) }},
	"lstart":  {"STARTED", func(p *process) string { return p.started.Format(time.ANSIC) }},
	"start":   {"START", startTime},
	"stime":   {"STIME", startTime},
	"vsz":     {"VSZ", func(p *process) string { return strconv.FormatUint(p.vsz, 10) }},
	"rss":     {"RSS", func(p *process) string { return strconv.FormatUint(p.rss, 10) }},
	"c":       {"C", func(p *process) string { return strconv.Itoa(min(int(p.cpuShare()), 99)) }},
	"pcpu":    {"%CPU", func(p *process) string { return fmt.Sprintf("%.1f", p.cpuShare()) }},
	"%cpu":    {"%CPU", func(p *process) string { return fmt.Sprintf("%.1f", p.cpuShare()) }},
	"pmem":    {"%MEM", func(p *process) string { return fmt.Sprintf("%.1f", p.memoryShare()) }},
	"%mem":    {"%MEM", func(p *process) string { return fmt.Sprintf("%.1f", p.memoryShare()) }},
}

// cpuShare is the processor time used per time lived, in percent.
func (p *process) cpuShare() float64 {
	lived := p.sys.now.Sub(p.started)
	if lived <= 0 {
		return 0
	}
	return 100 * float64(p.cpu) / float64(lived)
}

func (p *process) memoryShare() float64 {
	return 100 * float64(p.rss) / float64(max(p.sys.memory, 1))
}

// startTime is the time of day, or the date of what began on another day.
func startTime(p *process) string {
	switch t := p.started; {
	case t.YearDay() == p.sys.now.YearDay() && t.Year() == p.sys.now.Year():
		return t.Format("15:04")
	case t.Year() == p.sys.now.Year():
		return t.Format("Jan02")
	default:
		return t.Format("2006")
	}
}

func cpuTime(d time.Duration) string {
	s := int(d.Seconds())
	text := fmt.Sprintf("%02d:%02d:%02d", s/3600%24, s/60%60, s%60)
	if days := s / 86400; days > 0 {
		return fmt.Sprintf("%d-%s", days, text)
	}
	return text
}

func bsdTime(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

func elapsed(d time.Duration) string {
	s := int(d.Seconds())
	switch {
	case s < 3600:
		return fmt.Sprintf("%02d:%02d", s/60, s%60)
	default:
		return cpuTime(d)
	}
}
