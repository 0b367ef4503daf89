package decide

import (
	"net/http"
	"net/netip"
	"strings"
)

// clientAddr is the address of the client: that of the peer, or, if the peer is a trusted proxy, the rightmost hop of X-Forwarded-For that is not one. Whatever
// stands further left was written by the client itself.
func clientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	addr := parseAddr(r.RemoteAddr)
	hops := r.Header["X-Forwarded-For"]
	for i := len(hops) - 1; i >= 0; i-- {
		rest := hops[i]
		for rest != "" {
			if !isTrusted(addr, trusted) {
				return addr
			}
			cut := strings.LastIndexByte(rest, ',')
			hop := parseAddr(strings.TrimSpace(rest[cut+1:]))
			if !hop.IsValid() {
				return addr
			}
			addr, rest = hop, rest[:max(cut, 0)]
		}
	}
	return addr
}

func isTrusted(addr netip.Addr, trusted []netip.Prefix) bool {
	for _, prefix := range trusted {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// parseAddr reads an address with or without port; IPv6 in brackets or not.
func parseAddr(text string) netip.Addr {
	if addr, err := netip.ParseAddrPort(text); err == nil { // first: every peer is one
		return addr.Addr().Unmap().WithZone("")
	}
	addr, _ := netip.ParseAddr(strings.Trim(text, "[]"))
	return addr.Unmap().WithZone("")
}
