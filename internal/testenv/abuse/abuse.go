// Package abuse guarantees that every test of bad requests means the same ones: each kind that is known, with the status that is documented for it.
package abuse

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Request is one kind of bad request.
type Request struct {
	raw    string // the bytes on the wire
	Status int    // that belongs to it; 0 if its sender hangs up without waiting for an answer
}

// Requests returns all kinds by name. They name a team by its token; where an unknown one is given, the status is that of a decide that knows all.
func Requests(t testing.TB, token string) map[string]Request {
	t.Helper()
	kinds := bodies(t, token)
	maps.Copy(kinds, messages(token))
	return kinds
}

// post is a request with a body of the given length.
func post(target, headers, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s", target, len(body), headers, body)
}

func get(method, target, headers string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n"
}

func zip(t testing.TB, data []byte) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// withMember returns what makes a proper body with one more member.
func withMember(token string) func(member string) string {
	return func(member string) string { return `{"token":"` + token + `","distinct_id":"ada",` + member + `}` }
}

// bodies are bad in what is encoded (S34, S35, S46, S49).
func bodies(t testing.TB, token string) map[string]Request {
	t.Helper()
	const to, x = "/flags/?v=2", 1_000_000
	with := withMember(token)
	good := with(`"a":1`)
	bomb := zip(t, bytes.Repeat([]byte(" "), 64<<20))
	kinds := map[string]Request{
		"gzip bomb":                    {post(to, "Content-Encoding: gzip\r\n", bomb), 413},
		"gzip bomb, not announced":     {post(to, "", bomb), 413},
		"gzip bomb in JSON":            {post(to, "", zip(t, []byte(with(`"a":"`+strings.Repeat("x", 9<<20)+`"`)))), 413},
		"gzip in gzip":                 {post(to, "", zip(t, []byte(bomb))), 400},
		"gzip cut off":                 {post(to, "", zip(t, []byte(good))[:20]), 400},
		"gzip with a wrong sum":        {post(to, "", strings.TrimSuffix(zip(t, []byte(good)), "\x00")+"\x01"), 400},
		"gzip announced only":          {post(to, "Content-Encoding: gzip\r\n", good), 400},
		"compression unknown":          {post(to+"&compression=zstd", "", good), 400},
		"brotli":                       {post(to, "Content-Encoding: br\r\n", "\x1b\x2f\x00\xf8"), 400},
		"lz64":                         {post(to+"&compression=lz64", "", strings.Repeat("N4Ig", 50_000)), 400},
		"base64 of nothing":            {post(to, "", "===="), 400},
		"form":                         {post(to, "Content-Type: application/x-www-form-urlencoded\r\n", "data=%%%zz%"), 400},
		"multipart":                    {post(to, "Content-Type: multipart/form-data; boundary=x\r\n", "--x\r\n\r\n--x--"), 400},
		"UTF-16":                       {post(to, "", "\xff\xfe{\x00}\x00"), 400},
		"invalid UTF-8":                {post(to, "", with(`"person_properties":{"plan":"`+"\xff\xfe\x80"+`"}`)), 200},
		"lone surrogate":               {post(to, "", with(`"person_properties":{"plan":"\ud800"}`)), 200},
		"NUL":                          {post(to, "", with(`"person_properties":{"plan":"\u0000"}`)), 200},
		"arrays without end":           {post(to, "", with(`"a":`)+strings.Repeat("[", 200_000)), 400},
		"deep arrays":                  {post(to, "", with(`"a":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000))), 400},
		"deep objects":                 {post(to, "", with(`"a":`+strings.Repeat(`{"a":`, 100_000)+"1"+strings.Repeat("}", 100_000))), 400},
		"deep properties":              {post(to, "", with(`"person_properties":{"plan":`+strings.Repeat("[", 500)+strings.Repeat("]", 500)+"}")), 400},
		"100,000 properties":           {post(to, "", with(`"person_properties":{`+strings.Repeat(`"a":1,`, 100_000)+`"b":1}`)), 400},
		"100,000 groups":               {post(to, "", with(`"groups":{`+strings.Repeat(`"a":1,`, 100_000)+`"b":1}`)), 400},
		"100,000 flag keys":            {post(to, "", with(`"flag_keys":[`+strings.Repeat(`"a",`, 100_000)+`"b"]`)), 400},
		"megabyte property":            {post(to, "", with(`"person_properties":{"plan":"`+strings.Repeat("x", x)+`"}`)), 200},
		"megabyte key":                 {post(to, "", with(`"person_properties":{"`+strings.Repeat("k", x)+`":1}`)), 200},
		"megabyte token":               {post(to, "", `{"token":"`+strings.Repeat("t", x)+`","distinct_id":"ada"}`), 401},
		"megabyte distinct id":         {post(to, "", `{"token":"`+token+`","distinct_id":"`+strings.Repeat("é", x/2)+`"}`), 200},
		"megabyte number":              {post(to, "", with(`"person_properties":{"plan":`+strings.Repeat("9", x)+`}`)), 200},
		"number without end":           {post(to, "", with(`"person_properties":{"plan":1e999999999}`)), 200},
		"catastrophic pattern":         {post(to, "", with(`"person_properties":{"plan":"`+strings.Repeat("a", 50)+`!"}`)), 200},
		"catastrophic pattern, large":  {post(to, "", with(`"person_properties":{"plan":"`+strings.Repeat("a", 100_000)+`!"}`)), 200},
		"above the limit":              {post(to, "", strings.Repeat(" ", 1<<20+1)), 413},
		"no body":                      {post(to, "", ""), 400},
		"distinct id of another type":  {post(to, "", `{"token":"`+token+`","distinct_id":{}}`), 400},
		"properties of another type":   {post(to, "", with(`"person_properties":[1]`)), 400},
		"groups of another type":       {post(to, "", with(`"groups":"x"`)), 400},
		"null maps":                    {post(to, "", with(`"person_properties":null,"groups":null,"group_properties":null,"flag_keys":null`)), 200},
		"null in maps":                 {post(to, "", with(`"person_properties":{"plan":null},"groups":{"organization":null}`)), 200},
		"null distinct id":             {post(to, "", `{"token":"`+token+`","distinct_id":null}`), 400},
		"null token":                   {post(to, "", `{"token":null,"distinct_id":"ada"}`), 401},
		"injection":                    {post(to, "", `{"token":"' OR 1=1 --\r\nX: y","distinct_id":"ada"}`), 401},
		"OFREP: null":                  {post("/ofrep/v1/evaluate/flags", "X-API-Key: "+token+"\r\n", `{"context":null}`), 400},
		"OFREP: deep":                  {post("/ofrep/v1/evaluate/flags", "X-API-Key: "+token+"\r\n", `{"context":`+strings.Repeat("[", 90_000)), 400},
		"OFREP: key of 10 kB":          {post("/ofrep/v1/evaluate/flags/"+strings.Repeat("k", 10_000), "X-API-Key: "+token+"\r\n", `{"context":{"targetingKey":"ada"}}`), 404},
		"decide: above the limit":      {post("/decide/?v=3", "", strings.Repeat("[", 1<<20+1)), 413},
		"decide: base64 of a bomb":     {post("/decide/?v=3", "", bomb), 413},
		"definitions: long credential": {get("GET", "/flags/definitions?token="+token, "Authorization: Bearer "+strings.Repeat("k", 20_000)+"\r\n"), 401},
	}
	for _, body := range []string{"null", "[]", "1", `"x"`, "{", "}", "{}x", `{"a"`, "\x00", "true", "nul", "-", `{"token":"` + token} {
		kinds["body "+strconv.Quote(body)] = Request{post(to, "", body), 400}
	}
	return kinds
}

// messages are bad as messages of HTTP.
func messages(token string) map[string]Request {
	const to = "/flags/?v=2"
	good := withMember(token)(`"a":1`)
	line := "POST " + to + " HTTP/1.1\r\nHost: x\r\n"
	kinds := map[string]Request{
		"giant header":             {post(to, "X-Flood: "+strings.Repeat("x", 100_000)+"\r\n", good), 431},
		"many headers":             {post(to, strings.Repeat("X-Flood: x\r\n", 10_000), good), 431},
		"giant address":            {post("/flags/?v=2&x="+strings.Repeat("x", 100_000), "", good), 431},
		"long token in path":       {get("GET", "/array/"+strings.Repeat("t", 20_000)+"/config", ""), 401},
		"path upwards":             {get("GET", "/array/../../../etc/passwd", ""), 404},
		"NUL in path":              {get("GET", "/array/%00/config", ""), 401},
		"bad escape":               {get("GET", "/flags/%zz", ""), 400},
		"no host":                  {"POST " + to + " HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 400},
		"two hosts":                {line + "Host: y\r\nContent-Length: 2\r\n\r\n{}", 400},
		"two lengths":              {line + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", 400},
		"negative length":          {line + "Content-Length: -1\r\n\r\n", 400},
		"length of two megabytes":  {line + "Content-Length: 2000000\r\n\r\n{", 413},
		"bad chunk":                {line + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
		"endless chunk size":       {line + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("0", 10_000), 400},
		"unknown transfer":         {line + "Transfer-Encoding: gzip\r\n\r\n", 501},
		"space in header name":     {line + "X Flood: x\r\n\r\n", 400},
		"NUL in header":            {line + "X-Flood: \x00\r\n\r\n", 400},
		"no HTTP":                  {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
		"other version":            {"POST / HTTP/9.9\r\nHost: x\r\n\r\n", 505},
		"HTTP/2 without asking":    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404},
		"expectation":              {line + "Expect: miracles\r\nContent-Length: 2\r\n\r\n{}", 417},
		"1,000 proxies":            {post(to, "X-Forwarded-For: "+strings.Repeat("10.0.0.1, ", 1000)+"::1\r\n", good), 200},
		"giant origin":             {get("OPTIONS", to, "Origin: http://"+strings.Repeat("o", 20_000)+"\r\nAccess-Control-Request-Method: POST\r\n"), 204},
		"many parameters":          {post(to+strings.Repeat("&v=1", 5000), "", good), 200},
		"hangs up in the body":     {line + "Content-Length: 500\r\n\r\n{", 0},
		"hangs up in the header":   {"POST " + to + " HTTP/1.1\r\nX-A: ", 0},
		"CONNECT":                  {"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 404},
		"address of another host":  {get("GET", "http://169.254.169.254/latest/meta-data", ""), 404},
		"admin path on the public": {get("GET", "/debug/pprof/", ""), 404},
		"metrics on the public":    {get("GET", "/metrics", ""), 404},
	}
	for _, method := range []string{"PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", strings.Repeat("M", 5000)} {
		kinds["method "+method[:min(len(method), 10)]] = Request{get(method, to, ""), 405}
	}
	return kinds
}

// Send sends the bytes on a connection of its own and returns the status; 0 if there is no answer.
func (r Request) Send(addr string) (status int, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, err
	}
	var writing sync.WaitGroup
	writing.Go(func() { // the server may well answer and hang up before it has read all
		_, _ = io.WriteString(conn, r.raw)
		if r.Status == 0 {
			_ = conn.Close()
		}
	})
	defer writing.Wait()
	if r.Status == 0 {
		return 0, nil
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}
