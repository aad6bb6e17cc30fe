package filter

import (
	"strconv"
	"strings"
	"time"

	"github.com/kelp-engine/kelp/engine/fault"
)

// layouts of dates in Docker's requests, in local time unless they say more.
var layouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05", "2006-01-02T15:04",
	"2006-01-02T15", "2006-01-02Z07:00", "2006-01-02",
}

// Time reads a point in time as Docker's clients write it: seconds since 1970
// with a fraction or without, a date, or a duration before now.
func Time(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	if t, err := UnixTime(text); err == nil {
		return t, nil
	}
	for _, layout := range layouts {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fault.InvalidArgument("invalid time %q", text).
		WithHint("give a date such as 2026-01-02, a Unix time, or a duration such as 24h")
}

// UnixTime reads seconds since 1970 with up to nine decimal places.
func UnixTime(text string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	if len(fraction) > 9 || strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, strconv.ErrSyntax
	}
	nsec, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64) // digits only
	return time.Unix(sec, nsec), nil
}

// Until reads the single time of the key "until"; zero is none.
func (a Args) Until(now time.Time) (time.Time, error) {
	switch len(a["until"]) {
	case 0:
		return time.Time{}, nil
	case 1:
		return Time(a["until"][0], now)
	default:
		return time.Time{}, fault.InvalidArgument("more than one until filter specified")
	}
}
