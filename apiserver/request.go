package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/filter"
)

// maxBody bounds a JSON request body, in bytes.
const maxBody = 8 << 20

// request is what handlers read of an HTTP request.
type request struct {
	http    *http.Request
	vars    map[string]string
	values  url.Values
	version string // the API version of the path, or MaxAPIVersion
}

func newRequest(r *http.Request) (*request, error) {
	vars, err := pathVars(r)
	if err != nil {
		return nil, err
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault.InvalidArgument("cannot read the request's query: %w", err)
	}
	if err := checkVersion(vars["version"]); err != nil {
		return nil, err
	}
	version := vars["version"]
	if version == "" {
		version = MaxAPIVersion
	}
	return &request{http: r, vars: vars, values: values, version: version}, nil
}

// since says whether the client speaks the API version v ("1.NN") or newer.
func (r *request) since(v string) bool { return !versionLess(r.version, v) }

// ref is the {ref} of the path: an object's id, short id or name.
func (r *request) ref() string { return r.vars["ref"] }

// query returns the first value of a query parameter, or "".
func (r *request) query(name string) string { return r.values.Get(name) }

// has says whether the query has the parameter at all.
func (r *request) has(name string) bool { return r.values.Has(name) }

// flag reads a boolean parameter the way that Docker does: absent, empty,
// "0", "no", "false" and "none" are false, all else is true.
func (r *request) flag(name string) bool {
	switch strings.ToLower(strings.TrimSpace(r.query(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// flagOr is flag with a value for when the parameter is absent.
func (r *request) flagOr(name string, absent bool) bool {
	if !r.has(name) {
		return absent
	}
	return r.flag(name)
}

// int reads a number, or returns absent when the parameter is missing or empty.
func (r *request) int(name string, absent int) (int, error) {
	v := r.query(name)
	if v == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, fault.InvalidArgument("the query parameter %s must be a number, not %q", name, v)
	}
	return n, nil
}

// filters reads the parameter "filters", whose keys have to be accepted ones.
func (r *request) filters(accepted ...string) (filter.Args, error) {
	return filter.Parse(r.query("filters"), accepted...)
}

// decode reads the body, which has to be one JSON document, into v.
func (r *request) decode(v any) error {
	ok, err := r.decodeOptional(v)
	if err == nil && !ok {
		return fault.InvalidArgument("invalid JSON: got EOF while reading request body")
	}
	return err
}

// decodeOptional is decode for endpoints whose body may be empty; it says
// whether there was one.
func (r *request) decodeOptional(v any) (bool, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.http.Body, maxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return false, fault.InvalidArgument("the request body is larger than %d bytes", maxBody)
		}
		return false, fault.InvalidArgument("cannot read the request body: %w", err)
	}
	if len(body) == 0 {
		return false, nil
	}
	if ct := r.http.Header.Get("Content-Type"); ct != "" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil {
			return true, fault.InvalidArgument("malformed Content-Type header (%s): %w", ct, err)
		} else if mt != "application/json" {
			return true, fault.InvalidArgument("unsupported Content-Type header (%s): must be 'application/json'", ct)
		}
	} else if len(bytes.TrimSpace(body)) > 0 {
		return true, fault.InvalidArgument("missing Content-Type header: must be 'application/json'")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return true, fault.InvalidArgument("invalid JSON: %w", err)
	}
	if dec.More() {
		return true, fault.InvalidArgument("unexpected content after JSON")
	}
	return true, nil
}
