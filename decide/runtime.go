package decide

import (
	"net/http"
	"strings"

	"github.com/everflag/everflag/decide/eval"
)

// The beginnings of the SDKs' user agents. Browsers are known by their parts, see detectRuntime.
var (
	serverAgents  = []string{"posthog-python/", "posthog-ruby/", "posthog-php/", "posthog-java/", "posthog-go/", "posthog-node/", "posthog-dotnet/", "posthog-elixir/"}
	clientAgents  = []string{"posthog-android/", "posthog-ios/", "posthog-react-native/", "posthog-flutter/"}
	browserParts  = []string{"Mozilla/", "Chrome/", "Safari/", "Firefox/", "Edge/"}
	serverParts   = []string{"python-requests/", "curl/"}
	clientHeaders = []string{"Origin", "Referer", "Sec-Fetch-Mode", "Sec-Fetch-Site"}
)

// detectRuntime guesses from the headers where the SDK runs.
func detectRuntime(h http.Header) eval.Runtime {
	if agents := h["User-Agent"]; len(agents) > 0 {
		agent := agents[0]
		switch {
		case containsAny(agent, browserParts):
			return eval.RuntimeClient
		case hasAnyPrefix(agent, serverAgents), containsAny(agent, serverParts):
			return eval.RuntimeServer
		case hasAnyPrefix(agent, clientAgents):
			return eval.RuntimeClient
		}
	}
	for _, name := range clientHeaders {
		if len(h[name]) > 0 {
			return eval.RuntimeClient
		}
	}
	return eval.RuntimeUnknown
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

func hasAnyPrefix(text string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}
