package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/registry"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/filter"
)

// SearchFilters are the filters of Search.
var SearchFilters = []string{"is-automated", "is-official", "stars"}

const (
	maxSearch     = 100
	maxSearchBody = 8 << 20
	searchTimeout = 30 * time.Second
)

// SearchOptions say what is searched for.
type SearchOptions struct {
	// Term is what to look for; HOST/TERM asks another registry than Docker
	// Hub.
	Term string
	// Limit is the largest number of results, 1 to 100.
	Limit   int
	Filters filter.Args
	Auth    registry.AuthConfig
}

// Search asks a registry's v1 search.
func (m *Manager) Search(ctx context.Context, o SearchOptions) ([]registry.SearchResult, error) {
	if o.Limit < 1 || o.Limit > maxSearch {
		return nil, fault.InvalidArgument("limit %d is outside the range of [1, %d]", o.Limit, maxSearch)
	}
	if o.Term == "" {
		return nil, fault.InvalidArgument("no search term is given")
	}
	if strings.Contains(o.Term, "://") {
		return nil, fault.InvalidArgument("invalid repository name: repository name (%s) should not have a scheme", o.Term)
	}
	keep, err := searchFilter(o.Filters)
	if err != nil {
		return nil, err
	}
	host, term := splitSearchTerm(o.Term)
	found, err := m.search(ctx, host, term, o)
	if err != nil {
		return nil, err
	}
	results := []registry.SearchResult{}
	for _, r := range found.Results {
		if keep(r) && len(results) < o.Limit {
			results = append(results, r)
		}
	}
	return results, nil
}

// splitSearchTerm takes the registry from the term, as it is taken from an
// image's name.
func splitSearchTerm(term string) (host, rest string) {
	first, rest, ok := strings.Cut(term, "/")
	if !ok || !strings.ContainsAny(first, ".:") && first != "localhost" {
		return "index.docker.io", strings.TrimPrefix(term, "library/")
	}
	if first == "docker.io" || first == "index.docker.io" {
		return "index.docker.io", strings.TrimPrefix(rest, "library/")
	}
	return first, rest
}

func searchFilter(f filter.Args) (func(registry.SearchResult) bool, error) {
	automated, err := f.Bool("is-automated", false)
	if err != nil {
		return nil, err
	}
	official, err := f.Bool("is-official", false)
	if err != nil {
		return nil, err
	}
	stars := 0
	for _, text := range f["stars"] {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fault.InvalidArgument("invalid filter 'stars=%s'", text).WithHint("it must be a number")
		}
		stars = max(stars, n)
	}
	return func(r registry.SearchResult) bool {
		return r.StarCount >= stars &&
			(!f.Has("is-official") || r.IsOfficial == official) &&
			!automated // no registry builds images any more; none counts as automated
	}, nil
}

func (m *Manager) search(ctx context.Context, host, term string, o SearchOptions) (*registry.SearchResults, error) {
	schemes := []string{"https"}
	if m.o.Insecure.has(host) {
		schemes = append(schemes, "http")
	}
	var errs []error
	for _, scheme := range schemes {
		found, err := m.searchAt(ctx, scheme, host, term, o)
		if _, answered := errors.AsType[*fault.Error](err); err == nil || answered {
			return found, err
		}
		errs = append(errs, err)
	}
	return nil, fault.Unavailable("cannot search registry %s: %w", host, errors.Join(errs...))
}

// searchAt asks over one scheme. An error of class fault is the registry's
// answer; any other means that it was not reached.
func (m *Manager) searchAt(ctx context.Context, scheme, host, term string, o SearchOptions) (*registry.SearchResults, error) {
	ctx, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	u := url.URL{Scheme: scheme, Host: host, Path: "/v1/search", RawQuery: url.Values{"q": {term}, "n": {strconv.Itoa(o.Limit)}}.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fault.InvalidArgument("cannot search registry %s: %w", host, err)
	}
	req.Header.Set("User-Agent", m.o.UserAgent)
	if o.Auth.Username != "" && o.Auth.Password != "" {
		req.SetBasicAuth(o.Auth.Username, o.Auth.Password)
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return nil, fault.NotImplemented("registry %s offers no search (Unexpected status code %d)", host, resp.StatusCode)
	case http.StatusUnauthorized:
		return nil, fault.PermissionDenied("registry %s refuses to search: unauthorized", host).WithHint("log in with 'docker login %s'", host)
	default:
		return nil, fault.Unavailable("registry %s cannot search: Unexpected status code %d", host, resp.StatusCode)
	}
	var found registry.SearchResults
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxSearchBody)).Decode(&found); err != nil {
		return nil, fault.NotImplemented("registry %s offers no search: its answer is not JSON: %w", host, err)
	}
	return &found, nil
}
