package decide

import (
	"net/http"
	"strconv"
	"time"

	"github.com/everflag/everflag/decide/eval"
)

// exchange is one request and its answer. The answer is put together in memory and leaves in one write. It is pooled.
type exchange struct {
	w      http.ResponseWriter
	r      *http.Request
	header http.Header
	now    time.Time
	to     endpoint
	legacy bool // /decide under the rules of 2023; /flags did not exist then
	query  query

	status int
	sent   bool
	out    []byte
	stale  bool   // the answer says that it is stale
	ofrep  string // the flag that an OFREP request asks for
	shared []byte // sent instead of out: belongs to others, is not changed

	body    body
	request request
}

// Values of Content-Type.
var (
	contentJSON   = []string{"application/json"}
	contentText   = []string{"text/plain; charset=utf-8"}
	contentScript = []string{"application/javascript"}
)

func (x *exchange) begin(w http.ResponseWriter, r *http.Request, to endpoint, rules eval.Rules) {
	x.w, x.r, x.header, x.now = w, r, w.Header(), time.Now()
	x.to, x.legacy = to, to == endpointDecide && rules == eval.Rules2023
	x.query = parseQuery(r.URL.RawQuery)
	x.status, x.sent, x.stale = http.StatusOK, false, false
}

// end drops what refers to the request.
func (x *exchange) end() {
	x.w, x.r, x.header, x.query = nil, nil, nil, query{}
	if cap(x.out) > 1<<20 {
		x.out = nil
	}
	x.out, x.shared, x.ofrep = x.out[:0], nil, ""
}

// release drops what the request has brought. It is called before the answer is sent, for which a client may let us wait.
func (x *exchange) release() {
	if x.body.isLarge || x.body.isInflated {
		x.request.scratch = eval.Scratch{} // it refers to pieces of the body until it is used again
	}
	x.body.reset()
	x.request.reset()
}

// setVersion names the state that the answer reflects, if there is one.
func (x *exchange) setVersion(version string) {
	if version != "" {
		x.header["X-Everflag-Version"] = []string{version}
	}
}

// json says that out is JSON.
func (x *exchange) json() {
	x.header["Content-Type"] = contentJSON
}

// fail answers with the error.
func (x *exchange) fail(e *apiError) {
	x.status = e.status
	x.header["Content-Type"] = contentText
	if e.kind != "" {
		x.header["Content-Type"] = contentJSON
	}
	if e.retryAfter != "" {
		x.header["Retry-After"] = []string{e.retryAfter}
	}
	if e.status == http.StatusRequestEntityTooLarge {
		x.header["Connection"] = []string{"close"} // the rest of the body is not worth reading
	}
	x.shared = nil
	if x.to == endpointOFREP || x.to == endpointOFREPBulk {
		x.header["Content-Type"] = contentJSON
		x.out = e.appendOFREP(x.out[:0], x.ofrep)
		return
	}
	x.out = e.appendBody(x.out[:0])
}

// send writes the answer. An error means that the client is gone, which is nobody's failure.
func (x *exchange) send() {
	x.sent = true
	out := x.out
	if x.shared != nil {
		out = x.shared
	}
	if x.status != http.StatusNoContent && x.status != http.StatusNotModified {
		x.header["Content-Length"] = []string{strconv.Itoa(len(out))}
	}
	x.w.WriteHeader(x.status)
	if x.r.Method != http.MethodHead && len(out) > 0 {
		expectAnswer(x.r.Context(), len(out))
		_, _ = x.w.Write(out)
	}
}
