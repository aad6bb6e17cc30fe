package apiserver

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

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
