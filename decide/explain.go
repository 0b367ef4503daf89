package decide

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/everflag/everflag/decide/eval"
)

// explainRequest is what ExplainHandler takes: a token and the body of a request to /flags.
type explainRequest struct {
	Token   string          `json:"token"`
	Request json.RawMessage `json:"request"`
}

// ExplainHandler answers POST {"token": …, "request": …} with the [eval.Explanation]. It shows definitions in full and belongs on the admin listener, never
// on the public one. A request that names no evaluation runtime is explained for all of them.
func ExplainHandler(source Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, errMethod.detail, errMethod.status)
			return
		}
		explanation, e := explain(source, http.MaxBytesReader(w, r.Body, maxWireBody))
		if e != nil {
			http.Error(w, e.detail, e.status)
			return
		}
		text, err := json.Marshal(explanation)
		if err != nil {
			http.Error(w, errInternal.detail, errInternal.status)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text) // an error means that the client is gone
	})
}

// Explain explains the answer to the body of a request to /flags.
func Explain(program *eval.Program, body []byte, now time.Time) (eval.Explanation, error) {
	var req request
	if err := req.decode(lossy(body), false); err != nil {
		return eval.Explanation{}, currentErrors.undecodable(err)
	}
	if !req.hasDistinctID {
		return eval.Explanation{}, currentErrors.noDistinctID
	}
	req.input.Now = now
	if req.input.Runtime = req.runtime; req.runtime == eval.RuntimeUnknown {
		req.input.Runtime = eval.RuntimeAll
	}
	return program.Explain(&req.input), nil
}

func explain(source Source, body io.Reader) (eval.Explanation, *apiError) {
	var asked explainRequest
	if err := json.NewDecoder(body).Decode(&asked); err != nil {
		return eval.Explanation{}, currentErrors.undecodable(errJSONSyntax)
	}
	program, lookup := source.Program(asked.Token)
	switch lookup {
	case Found:
	case Absent:
		return eval.Explanation{}, currentErrors.unknownToken
	default:
		return eval.Explanation{}, errUnavailable
	}
	explanation, err := Explain(program, asked.Request, time.Now())
	if err != nil {
		return eval.Explanation{}, &apiError{status: http.StatusBadRequest, detail: err.Error()}
	}
	return explanation, nil
}
