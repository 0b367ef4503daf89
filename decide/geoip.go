package decide

import (
	"fmt"
	"net/netip"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/everflag/everflag/decide/eval"
)

// GeoIP looks client addresses up in a MaxMind city database.
type GeoIP struct {
	db *maxminddb.Reader
}

// OpenGeoIP opens the database file.
func OpenGeoIP(path string) (*GeoIP, error) {
	db, err := maxminddb.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening GeoIP database %q: %w", path, err)
	}
	return &GeoIP{db: db}, nil
}

// Close closes the database.
func (g *GeoIP) Close() error {
	if err := g.db.Close(); err != nil {
		return fmt.Errorf("closing GeoIP database: %w", err)
	}
	return nil
}

// geoRecord is the part of a city record that PostHog makes properties of.
type geoRecord struct {
	City      geoName `maxminddb:"city"`
	Country   geoCode `maxminddb:"country"`
	Continent struct {
		Code  string            `maxminddb:"code"`
		Names map[string]string `maxminddb:"names"`
	} `maxminddb:"continent"`
	Postal struct {
		Code string `maxminddb:"code"`
	} `maxminddb:"postal"`
	Location struct {
		TimeZone string `maxminddb:"time_zone"`
	} `maxminddb:"location"`
}

type geoName struct {
	Names map[string]string `maxminddb:"names"`
}

type geoCode struct {
	Code  string            `maxminddb:"iso_code"`
	Names map[string]string `maxminddb:"names"`
}

// properties are the address's $geoip_ properties, nil if it is not known.
func (g *GeoIP) properties(addr netip.Addr) []eval.Property {
	if !addr.IsValid() {
		return nil
	}
	var record geoRecord
	result := g.db.Lookup(addr)
	if !result.Found() || result.Decode(&record) != nil {
		return nil
	}
	var properties []eval.Property
	for _, p := range [...]struct{ key, text string }{
		{"$geoip_city_name", record.City.Names["en"]},
		{"$geoip_country_name", record.Country.Names["en"]},
		{"$geoip_country_code", record.Country.Code},
		{"$geoip_continent_name", record.Continent.Names["en"]},
		{"$geoip_continent_code", record.Continent.Code},
		{"$geoip_postal_code", record.Postal.Code},
		{"$geoip_time_zone", record.Location.TimeZone},
	} {
		if p.text != "" {
			properties = append(properties, eval.Property{Key: p.key, Value: eval.Value{Kind: eval.String, Text: p.text}})
		}
	}
	return properties
}
