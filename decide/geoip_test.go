package decide

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// writeGeoDB writes a MaxMind database that knows one IPv4 network of 24 bits: a chain of 24 nodes whose last record points to the data.
func writeGeoDB(t *testing.T, network [3]byte, data any) string {
	t.Helper()
	const nodes = 24
	var tree []byte
	for bit := range nodes {
		next := uint32(bit + 1)
		if bit == nodes-1 {
			next = nodes + 16 // the first byte of data
		}
		records := [2]uint32{nodes, nodes} // not found
		records[network[bit/8]>>(7-bit%8)&1] = next
		for _, r := range records {
			tree = append(tree, byte(r>>16), byte(r>>8), byte(r))
		}
	}
	file := append(tree, make([]byte, 16)...)
	file = appendGeo(file, data)
	file = append(file, "\xab\xcd\xefMaxMind.com"...)
	file = appendGeo(file, map[string]any{
		"node_count": uint32(nodes), "record_size": uint32(24), "ip_version": uint32(4), "database_type": "Test-City", "languages": []string{"en"},
		"binary_format_major_version": uint32(2), "binary_format_minor_version": uint32(0), "build_epoch": uint32(1), "description": map[string]any{"en": "test"},
	})
	path := filepath.Join(t.TempDir(), "city.mmdb")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// appendGeo encodes a value: maps, lists, strings and numbers, each below 29 bytes or elements.
func appendGeo(dst []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return append(append(dst, 2<<5|byte(len(v))), v...)
	case uint32:
		return binary.BigEndian.AppendUint32(append(dst, 6<<5|4), v)
	case []string:
		dst = append(dst, byte(len(v)), 11-7)
		for _, s := range v {
			dst = appendGeo(dst, s)
		}
	case map[string]any:
		dst = append(dst, 7<<5|byte(len(v)))
		for key, value := range v {
			dst = appendGeo(appendGeo(dst, key), value)
		}
	}
	return dst
}

func TestGeoIP(t *testing.T) {
	name := func(text string) map[string]any { return map[string]any{"en": text} }
	path := writeGeoDB(t, [3]byte{81, 2, 69}, map[string]any{
		"city": map[string]any{"names": name("London")}, "country": map[string]any{"iso_code": "GB", "names": name("United Kingdom")},
		"continent": map[string]any{"code": "EU", "names": name("Europe")}, "postal": map[string]any{"code": "SW1"}, "location": map[string]any{"time_zone": "Europe/London"},
	})
	geo, err := OpenGeoIP(path)
	if err != nil {
		t.Fatal(err)
	}
	defer geo.Close()
	got := map[string]string{}
	for _, p := range geo.properties(netip.MustParseAddr("81.2.69.142")) {
		got[p.Key] = p.Value.Text
	}
	for key, want := range map[string]string{
		"$geoip_city_name": "London", "$geoip_country_name": "United Kingdom", "$geoip_country_code": "GB", "$geoip_continent_name": "Europe",
		"$geoip_continent_code": "EU", "$geoip_postal_code": "SW1", "$geoip_time_zone": "Europe/London",
	} {
		if got[key] != want {
			t.Errorf("%s: got %q, want %q", key, got[key], want)
		}
	}
	for _, other := range []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1"), {}} {
		if p := geo.properties(other); p != nil {
			t.Errorf("%v: got %v", other, p)
		}
	}

	flag := `"key":"gb","filters":{"groups":[{"properties":[{"key":"$geoip_country_code","type":"person","operator":"exact","value":["GB"]}],"rollout_percentage":100}]}`
	with, _ := newTestHandler(t, Config{GeoIP: geo, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, flag)
	without, _ := newTestHandler(t, Config{}, flag)
	for name, c := range map[string]struct {
		handler *Handler
		body    string
		on      any
		errors  bool
	}{
		"known":       {with, `{"token":"phc_test","distinct_id":"u"}`, true, false},
		"disabled":    {with, `{"token":"phc_test","distinct_id":"u","geoip_disable":true}`, false, true},
		"supplied":    {with, `{"token":"phc_test","distinct_id":"u","person_properties":{"$geoip_country_code":"FR"}}`, false, false},
		"no database": {without, `{"token":"phc_test","distinct_id":"u"}`, false, true},
	} {
		answer := jsonOf(t, call(c.handler, "POST", "/flags/?v=2", c.body, "X-Forwarded-For", "81.2.69.142"))
		if on := answer["flags"].(map[string]any)["gb"].(map[string]any)["enabled"]; on != c.on || answer["errorsWhileComputingFlags"] != c.errors {
			t.Errorf("%s: got %v", name, answer)
		}
	}
	if _, err := OpenGeoIP(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("opened a file that does not exist")
	}
}
