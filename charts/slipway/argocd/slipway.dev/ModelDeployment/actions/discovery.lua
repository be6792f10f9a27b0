-- What a person may do with the rollout of a ModelDeployment now, as `kubectl slipway` would let them.

local status, spec = obj.status or {}, obj.spec.rollout or {}
local annotations = obj.metadata.annotations or {}
local rollout = status.rollout
local under_way = rollout ~= nil and rollout.phase ~= "Aborting"

-- Argo CD gives its scripts no library of strings; order has words with the same beginning in a row.
local function begins(text, with)
  return text ~= nil and text >= with and text < with .. "\255"
end

local function paused()
  local meant = annotations["slipway.dev/pause"]
  return meant ~= nil and (meant == rollout.id or begins(meant, rollout.id .. "/"))
end

-- Whether the step is one that a person can take: a pause, or an analysis.
local function waits()
  local step = rollout.step or 0
  if spec.steps ~= nil then
    local at = spec.steps[step + 1]
    return at ~= nil and (at.pause ~= nil or at.analysis ~= nil)
  end
  if spec.strategy == "Canary" then
    return step == 1 or step == 3
  end
  return (spec.strategy == "BlueGreen" and step == 1) or (spec.strategy == "Shadow" and (step == 1 or step == 2))
end

local function action(words, enabled)
  return { displayName = words, disabled = not enabled }
end

local alone = rollout ~= nil
  and rollout.phase == "Aborting"
  and begins(rollout.message, "holds, since the stable revision has no ready pod: ")
return {
  ["promote"] = action("Promote", under_way and not paused() and not spec.paused and waits()),
  ["promote-full"] = action("Promote fully", under_way or alone),
  ["abort"] = action("Abort", under_way),
  ["retry"] = action("Retry what was rejected", status.rejected ~= nil and #status.rejected > 0),
  ["pause"] = action("Pause", under_way and not paused()),
  ["resume"] = action("Resume", rollout ~= nil and annotations["slipway.dev/pause"] ~= nil),
}
