"""The windows of the plugin. They show the event stream and the job schema, and contain no logic of their own."""
