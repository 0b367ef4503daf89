package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// sortedStrings compares lists of keys, whose order says nothing.
var sortedStrings = cmpopts.SortSlices(func(a, b any) bool {
	x, _ := a.(string)
	y, _ := b.(string)
	return cmp.Less(x, y)
})

// sent is what docs/sdks.md says that an SDK sends.
type sent struct {
	method, query, contentType string
	userAgent                  string   // how it begins; empty = a browser's own
	members                    []string // of the body
}

// wantSent compares a request with what is documented of the SDK. A difference is no fault of decide: look whether it answers the new form as well, then
// correct the document.
func (e exchange) wantSent(t *testing.T, want sent) {
	t.Helper()
	got := sent{
		method: e.Method, query: e.Query.Encode(), contentType: e.Header.Get("Content-Type"), userAgent: want.userAgent,
		members: slices.Sorted(maps.Keys(e.Body)),
	}
	if !strings.HasPrefix(e.Header.Get("User-Agent"), want.userAgent) {
		got.userAgent = e.Header.Get("User-Agent")
	}
	if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(sent{})); diff != "" {
		t.Errorf("the SDK sends another request to %s than is documented (-documented +sent):\n%s", e.Path, diff)
	}
}
