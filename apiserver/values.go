package apiserver

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// parseTime reads seconds since 1970 with up to nine decimal places; "" is the
// zero time.
func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	whole, fraction, _ := strings.Cut(text, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	if len(fraction) > 9 || strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, strconv.ErrSyntax
	}
	nsec, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	return time.Unix(sec, nsec), nil
}

// negotiate returns the media type of the offered ones that the client
// accepts most, or fallback.
func negotiate(h http.Header, fallback string, offers ...string) string {
	best, weight := fallback, 0.0
	for _, accept := range h.Values("Accept") {
		for _, part := range strings.Split(accept, ",") {
			media, params, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			q := 1.0
			if v, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(v, 64); err != nil {
					continue
				}
			}
			for _, offer := range offers {
				if media == offer && q > weight {
					best, weight = offer, q
				}
			}
		}
	}
	return best
}
