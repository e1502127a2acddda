-- SPDX-License-Identifier: Apache-2.0
-- Argo CD's health of Headrace's objects: as kstatus reads their conditions.
if obj.metadata.deletionTimestamp ~= nil then
  return {status = "Progressing", message = "It is being deleted"}
end
local status = obj.status or {}
local health = {status = "Progressing", message = "Waiting for the operator"}
local generation = obj.metadata.generation or 0
for _, condition in ipairs(status.conditions or {}) do
  local seen = condition.observedGeneration or status.observedGeneration or 0
  if seen > 0 and seen >= generation then
    if condition.type == "Stalled" and condition.status == "True" then
      -- A person must act on this very object.
      return {status = "Degraded", message = condition.reason .. ": " .. condition.message}
    end
    if condition.type == "Ready" then
      health.message = condition.reason .. ": " .. condition.message
      if condition.status == "True" then
        health.status = "Healthy"
      end
    end
  end
end
return health
