package verify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/postrider/postrider/pkg/verify"
)

// A delivery, as Standard Webhooks' own example has it.
const exampleBody = `{"type":"contact.created","timestamp":"2022-11-03T20:26:10.344522Z","data":{"id":"1f81eb52-5198-4599-803e-771906343485"}}`

func delivery() *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/hooks", strings.NewReader(exampleBody))
	r.Header.Set("webhook-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W")
	r.Header.Set("webhook-timestamp", "1674087231")
	r.Header.Set("webhook-signature", "v1,ARw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ=")
	return r
}

// then is a clock that makes the examples last; leave Options.Now out.
func then() time.Time { return time.Unix(1674087232, 0) }

func ExampleVerifier_Handler() {
	secrets := []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"} // in a rotation, the older one too
	v, err := verify.Standard(secrets, verify.Options{
		Window:  verify.NewWindow(100_000),
		Refused: func(_ *http.Request, err error) { fmt.Println("refused:", err) },
		Now:     then,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	h := v.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, _ := verify.FromContext(r.Context())
		var event struct{ Type string }
		if json.Unmarshal(m.Body, &event) == nil {
			fmt.Println("took", event.Type, "as", m.ID)
		}
		w.WriteHeader(http.StatusNoContent)
	}))

	h.ServeHTTP(httptest.NewRecorder(), delivery())
	h.ServeHTTP(httptest.NewRecorder(), delivery()) // somebody plays a recording
	forged := delivery()
	forged.Header.Set("webhook-id", "msg_another")
	h.ServeHTTP(httptest.NewRecorder(), forged)
	// Output:
	// took contact.created as msg_2KWPBgLlAfxdpx2AI54pPJ85f4W
	// refused: the request was taken before
	// refused: no signature matches
}

func ExampleVerifier_Verify() {
	v, err := verify.Standard([]string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, verify.Options{Now: then})
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := v.Verify(delivery(), []byte(exampleBody)) // the body as it was read
	fmt.Println(m.ID, err)
	_, err = v.Verify(delivery(), []byte(exampleBody+"\n"))
	fmt.Println(err)
	// Output:
	// msg_2KWPBgLlAfxdpx2AI54pPJ85f4W <nil>
	// no signature matches
}

func ExampleScheme() {
	v, err := verify.Scheme("stripe", []string{"whsec_test_4f9d3c2b1a"}, verify.Options{Now: then})
	if err != nil {
		fmt.Println(err)
		return
	}
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/hooks", strings.NewReader(exampleBody))
	r.Header.Set("Stripe-Signature", "t=1674087231,v1=3f24c2b0d35da5730a32f9e71ec23eefb9679bab919fe9ef21713df10d54f373")
	m, err := v.Verify(r, []byte(exampleBody))
	fmt.Println(m.Time.UTC(), err)
	// Output: 2023-01-19 00:13:51 +0000 UTC <nil>
}

func ExampleMessageSignatures() {
	// The key set that the account publishes, fetched at start and again when a key is unknown.
	keys, err := verify.JWKS([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA",
		"kid":"poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U","x":"JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs"}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := verify.MessageSignatures(keys, verify.TargetURI, verify.Options{URL: verify.Origin("https://consumer.example.com"), Now: then})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = v.Verify(delivery(), []byte(exampleBody))
	fmt.Println(err)
	// Output: a signature header is missing: the signature is missing: no field Signature-Input
}
