-- Let a rollout go on that was paused by the action or by kubectl slipway pause; spec.rollout.paused is changed in Git.
local annotations = obj.metadata.annotations or {}
if obj.status == nil or obj.status.rollout == nil then
  error("no rollout is under way", 0)
end
if annotations["slipway.dev/pause"] == nil then
  error("it was not paused by a command; spec.rollout.paused is changed in Git", 0)
end
annotations["slipway.dev/pause"] = nil
annotations["slipway.dev/pause-by"] = nil
return obj
