package eval

import (
	"cmp"
	"strconv"
	"strings"
)

// version is a semantic version. Text after the core takes part in the order: that is how PostHog's server compares.
type version struct {
	major, minor, patch uint64
	pre, build          string
}

// parseVersion reads a version as PostHog does: one leading v and blanks around it are dropped, missing components count as 0, leading zeros are
// ignored.
func parseVersion(text string) (version, bool) {
	text = trimVersion(text)
	core, suffix := text, ""
	if i := strings.IndexAny(text, "-+"); i >= 0 {
		core, suffix = text[:i], text[i:]
	}
	var v version
	for i, part := range []*uint64{&v.major, &v.minor, &v.patch} {
		component, rest, more := strings.Cut(core, ".")
		n, ok := parseComponent(component)
		if !ok || more && i == 2 {
			return version{}, false
		}
		*part, core = n, rest
		if !more {
			break
		}
	}
	return v, v.setSuffix(suffix)
}

func trimVersion(text string) string {
	return strings.TrimSpace(strings.TrimPrefix(text, "v"))
}

func parseComponent(text string) (uint64, bool) {
	if !allDigits(text) || text == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

func allDigits(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return true
}

func (v *version) setSuffix(suffix string) bool {
	pre, build, hasBuild := strings.Cut(suffix, "+")
	v.build = build
	if pre, isPre := strings.CutPrefix(pre, "-"); isPre {
		v.pre = pre
		if !validIdentifiers(pre, true) {
			return false
		}
	} else if pre != "" {
		return false
	}
	return !hasBuild || validIdentifiers(build, false)
}

func validIdentifiers(text string, strict bool) bool {
	for {
		id, rest, more := strings.Cut(text, ".")
		if id == "" || strict && len(id) > 1 && id[0] == '0' && allDigits(id) {
			return false
		}
		for i := range len(id) {
			if c := id[i]; c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
				return false
			}
		}
		if !more {
			return true
		}
		text = rest
	}
}

func (v version) compare(w version) int {
	return cmp.Or(cmp.Compare(v.major, w.major), cmp.Compare(v.minor, w.minor), cmp.Compare(v.patch, w.patch),
		comparePre(v.pre, w.pre), compareBuild(v.build, w.build))
}

func comparePre(a, b string) int {
	if a == "" || b == "" {
		return cmp.Compare(len(b), len(a)) // a release is above its pre-releases
	}
	return compareIdentifiers(a, b, func(x, y string) int { return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)) })
}

func compareBuild(a, b string) int {
	return compareIdentifiers(a, b, func(x, y string) int {
		xn, yn := strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		return cmp.Or(cmp.Compare(len(xn), len(yn)), cmp.Compare(xn, yn), cmp.Compare(len(x), len(y)))
	})
}

// compareIdentifiers compares dotted identifiers: numbers by the function given and below words, a prefix below what it begins.
func compareIdentifiers(a, b string, numbers func(x, y string) int) int {
	for {
		x, restA, moreA := strings.Cut(a, ".")
		y, restB, moreB := strings.Cut(b, ".")
		order := 0
		switch xd, yd := allDigits(x), allDigits(y); {
		case xd && yd:
			order = numbers(x, y)
		case xd:
			order = -1
		case yd:
			order = 1
		default:
			order = cmp.Compare(x, y)
		}
		if order != 0 || !moreA || !moreB {
			return cmp.Or(order, compareBool(moreA, moreB))
		}
		a, b = restA, restB
	}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// comparator is one part of a version requirement. minor and patch are -1 where the requirement leaves them out.
type comparator struct {
	op    string // "=", ">", ">=", "<", "<=", "~", "^" or "*"
	major uint64
	minor int64
	patch int64
	pre   string
}

// requirement is a set of comparators that must all hold.
type requirement []comparator

// parseRange builds the requirement of the operators semver_tilde, semver_caret and semver_wildcard.
func parseRange(op, text string) (requirement, bool) {
	text = trimVersion(text)
	if op == "*" {
		parts := strings.Split(text, ".")
		for i, part := range parts {
			parts[i] = trimZeros(part)
		}
		return parseRequirement(strings.ReplaceAll(strings.Join(parts, "."), "*", "x"))
	}
	core, suffix := text, ""
	if i := strings.IndexAny(text, "-+"); i >= 0 {
		core, suffix = text[:i], text[i:]
	}
	parts := strings.Split(core, ".")
	for i, part := range parts {
		parts[i] = trimZeros(part)
	}
	for len(parts) < 3 {
		parts = append(parts, "0")
	}
	return parseRequirement(op + strings.Join(parts, ".") + suffix)
}

func trimZeros(part string) string {
	if part == "" || !allDigits(part) {
		return part
	}
	return cmp.Or(strings.TrimLeft(part, "0"), "0")
}

func parseRequirement(text string) (requirement, bool) {
	if t := strings.TrimSpace(text); t == "x" {
		return requirement{}, true
	}
	var req requirement
	for part := range strings.SplitSeq(text, ",") {
		c, ok := parseComparator(strings.Trim(part, " "))
		if !ok || len(req) == maxComparators {
			return nil, false
		}
		req = append(req, c)
	}
	return req, true
}

const maxComparators = 32

func parseComparator(text string) (comparator, bool) {
	c := comparator{op: "^", minor: -1, patch: -1}
	for _, op := range []string{">=", "<=", "=", ">", "<", "~", "^"} {
		if rest, ok := strings.CutPrefix(text, op); ok {
			c.op, text = op, strings.TrimLeft(rest, " ")
			break
		}
	}
	core, suffix := text, ""
	if i := strings.IndexAny(text, "-+"); i >= 0 {
		core, suffix = text[:i], text[i:]
	}
	parts := strings.Split(core, ".")
	if len(parts) > 3 || suffix != "" && len(parts) < 3 {
		return c, false
	}
	wild := false
	for i, part := range parts {
		if part == "x" && i > 0 {
			wild = true
			continue
		}
		n, ok := parseComponent(part)
		if !ok || wild || part != trimZeros(part) || i > 0 && n > 1<<62 {
			return c, false
		}
		switch i {
		case 0:
			c.major = n
		case 1:
			c.minor = int64(n)
		case 2:
			c.patch = int64(n)
		}
	}
	if wild && c.op == "^" {
		c.op = "*"
	}
	var v version
	ok := v.setSuffix(suffix) && (suffix == "" || !wild)
	c.pre = v.pre
	return c, ok
}

func (req requirement) matches(v version) bool {
	for _, c := range req {
		if !c.matches(v) {
			return false
		}
	}
	if v.pre == "" {
		return true
	}
	for _, c := range req { // a pre-release matches only where one of the same version is asked for
		if c.major == v.major && c.minor == int64(v.minor) && c.patch == int64(v.patch) && c.pre != "" {
			return true
		}
	}
	return false
}

func (c comparator) matches(v version) bool {
	switch c.op {
	case "=", "*":
		return c.equal(v)
	case ">":
		return c.greater(v)
	case ">=":
		return c.equal(v) || c.greater(v)
	case "<":
		return c.less(v)
	case "<=":
		return c.equal(v) || c.less(v)
	case "~":
		return c.tilde(v)
	default:
		return c.caret(v)
	}
}

func (c comparator) equal(v version) bool {
	return v.major == c.major && (c.minor < 0 || int64(v.minor) == c.minor) && (c.patch < 0 || int64(v.patch) == c.patch) && v.pre == c.pre
}

func (c comparator) greater(v version) bool {
	return c.order(v) > 0
}

func (c comparator) less(v version) bool {
	return c.order(v) < 0
}

// order compares the version with the comparator; what the comparator leaves out counts as equal.
func (c comparator) order(v version) int {
	if o := cmp.Compare(v.major, c.major); o != 0 || c.minor < 0 {
		return o
	}
	if o := cmp.Compare(int64(v.minor), c.minor); o != 0 || c.patch < 0 {
		return o
	}
	return cmp.Or(cmp.Compare(int64(v.patch), c.patch), comparePre(v.pre, c.pre))
}

func (c comparator) tilde(v version) bool {
	if v.major != c.major || c.minor >= 0 && int64(v.minor) != c.minor {
		return false
	}
	if c.patch >= 0 && int64(v.patch) != c.patch {
		return int64(v.patch) > c.patch
	}
	return comparePre(v.pre, c.pre) >= 0
}

func (c comparator) caret(v version) bool {
	minor, patch := int64(v.minor), int64(v.patch)
	switch {
	case v.major != c.major:
		return false
	case c.minor < 0:
		return true
	case c.patch < 0:
		return minor == c.minor || c.major > 0 && minor > c.minor
	case c.major > 0 && minor != c.minor:
		return minor > c.minor
	case minor != c.minor:
		return false
	case (c.major > 0 || c.minor > 0) && patch != c.patch:
		return patch > c.patch
	case patch != c.patch:
		return false
	}
	return comparePre(v.pre, c.pre) >= 0
}
