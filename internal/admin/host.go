package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// forMachines are the paths that tell numbers and states only. Monitoring asks for them under whatever name it has.
var forMachines = map[string]bool{"/livez": true, "/readyz": true, "/status": true, "/metrics": true}

// onlyPrivateNames turns away requests under a name that a stranger could own. With DNS rebinding the page of a stranger's site leads its own name to
// this address; its visitor's browser then takes the listener for that site, and lets the page read flags and give orders.
func onlyPrivateNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !forMachines[r.URL.Path] && !privateName(r.Host) {
			writeText(w, http.StatusMisdirectedRequest, "use an IP address, localhost or a name without dots: other names could be a stranger's (DNS rebinding)")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// privateName reports whether nobody can own the host of a URL: an address, a name without dots, or one under a domain that is never delegated.
func privateName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || !strings.Contains(host, ".") {
		return true
	}
	for _, domain := range []string{".localhost", ".local", ".internal", ".svc"} { // .svc and svc.cluster.local are Kubernetes'
		if strings.HasSuffix(host, domain) {
			return true
		}
	}
	return false
}
