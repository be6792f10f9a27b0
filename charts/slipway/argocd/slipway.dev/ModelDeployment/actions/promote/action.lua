-- Let the rollout take the step that it waits at. The annotations name the rollout and the step, so they can hit no
-- later one, and who writes them: Argo CD's own name, which policies.approvals holds to the truth.
local me = "system:serviceaccount:argocd:argocd-server"

local rollout = obj.status and obj.status.rollout
if rollout == nil then
  error("no rollout is under way", 0)
end
if rollout.phase == "Aborting" then
  error("rollout " .. rollout.id .. " is being aborted", 0)
end
local meant = rollout.id .. "/" .. (rollout.step or 0)
local annotations = obj.metadata.annotations or {}
annotations["slipway.dev/promote"] = meant
annotations["slipway.dev/promote-by"] = meant .. "/" .. me
obj.metadata.annotations = annotations
return obj
