"""The webhook door: events and answers over HTTP.

    POST /e/<event key>            one event, or a list of them
    POST /w/<name>                 a webhook of a configured source
    POST /c/<token>                the answer to a callback          (also .../fail and .../heartbeat, and GET with ?...)

`http` turns what a Lambda Function URL delivers into a Request, and a Response into its answer; `serve` has the routes;
`keys`, `limits` and `secrets` say who may come in and how often; `transform` makes an event of a webhook.
"""
