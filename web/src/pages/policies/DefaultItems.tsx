import { Button, Group, Select, SimpleGrid, Stack, Switch, TextInput } from '@mantine/core';
import type { Item, Rule, UserPolicy } from '../../api/types';
import { Plus } from '../../components/icons';
import { Lines } from '../../components/Lines';
import { Schedules } from '../../components/Schedules';
import { t } from '../../i18n';
import { newId } from '../../lib/format';
import { engineName, FILES, newItem, newRule, PROGRAM, valuesOf, withValues } from '../../lib/items';
import { newSchedule, ruleText } from '../../lib/schedule';
import { systems } from './PolicyPage';

/** Instead of a vault: the newest one of the account, or each of them. */
const LATEST = '1100';
const ALL = '1101';

/** Protected Items that a policy gives to devices, each with its rules. */
export function DefaultItems({ policy, set }: { policy: UserPolicy; set: (next: UserPolicy) => void }) {
  const items = policy.DefaultSourcesWithOSRestriction ?? {};
  const rules = policy.DefaultSourcesBackupRules ?? {};
  const setItem = (id: string, item: Item, RestrictOS: number) =>
    set({
      ...policy,
      DefaultSourcesWithOSRestriction: { ...items, [id]: { RestrictOS, SourceConfig: item } },
    });
  const setRules = (next: Record<string, Rule>) => set({ ...policy, DefaultSourcesBackupRules: next });
  const remove = (id: string) =>
    set({
      ...policy,
      DefaultSourcesWithOSRestriction: Object.fromEntries(Object.entries(items).filter(([k]) => k !== id)),
      DefaultSourcesBackupRules: Object.fromEntries(Object.entries(rules).filter(([, r]) => r.Source !== id)),
    });
  const add = () => {
    const id = newId();
    set({
      ...policy,
      DefaultSourcesWithOSRestriction: {
        ...items,
        [id]: {
          RestrictOS: 0,
          SourceConfig: { ...newItem(''), Description: t('Files'), ExistingUserUpdate: true },
        },
      },
      DefaultSourcesBackupRules: {
        ...rules,
        [newId()]: { ...newRule(id, LATEST), Schedules: [newSchedule()] },
      },
    });
  };
  return (
    <Stack gap="sm">
      {Object.entries(items).map(([id, { RestrictOS, SourceConfig: item }]) => {
        const own = Object.entries(rules).filter(([, r]) => r.Source === id);
        const props = item.EngineProps ?? {};
        const change = (next: Partial<Item>) => setItem(id, { ...item, ...next }, RestrictOS);
        return (
          <div className="card" key={id}>
            <Stack gap="sm">
              <SimpleGrid cols={{ base: 1, sm: 3 }}>
                <TextInput
                  label={t('Name')}
                  value={item.Description}
                  onChange={(e) => change({ Description: e.currentTarget.value })}
                />
                <Select
                  label={t('System')}
                  data={systems()}
                  value={String(RestrictOS)}
                  onChange={(next) => setItem(id, item, Number(next))}
                />
                <Select
                  label={t('Kind')}
                  data={[...new Set([FILES, PROGRAM, item.Engine])].map((value) => ({
                    value,
                    label: engineName(value),
                  }))}
                  value={item.Engine}
                  onChange={(next) => change({ Engine: next ?? FILES, EngineProps: {} })}
                />
              </SimpleGrid>
              {item.Engine === FILES && (
                <SimpleGrid cols={{ base: 1, sm: 2 }}>
                  <Lines
                    label={t('Folders and files')}
                    help={t('One path a line')}
                    value={valuesOf(props, 'INCLUDE')}
                    set={(next) => change({ EngineProps: withValues(props, 'INCLUDE', next) })}
                  />
                  <Lines
                    label={t('Left out')}
                    help={t('Paths or patterns such as *.tmp, one a line')}
                    value={valuesOf(props, 'EXCLUDE')}
                    set={(next) => change({ EngineProps: withValues(props, 'EXCLUDE', next) })}
                  />
                </SimpleGrid>
              )}
              {item.Engine === PROGRAM && (
                <SimpleGrid cols={{ base: 1, sm: 2 }}>
                  <TextInput
                    label={t('Command')}
                    value={props.COMMAND ?? ''}
                    onChange={(e) => change({ EngineProps: { ...props, COMMAND: e.currentTarget.value } })}
                  />
                  <TextInput
                    label={t('Name of the file')}
                    value={props.SAVEAS ?? ''}
                    onChange={(e) => change({ EngineProps: { ...props, SAVEAS: e.currentTarget.value } })}
                  />
                </SimpleGrid>
              )}
              {own.map(([key, rule]) => (
                <Stack gap="xs" key={key}>
                  <Group align="flex-end" gap="xs">
                    <TextInput
                      w={260}
                      label={t('Name of the rule')}
                      placeholder={ruleText(rule)}
                      value={rule.Description}
                      onChange={(e) =>
                        setRules({ ...rules, [key]: { ...rule, Description: e.currentTarget.value } })
                      }
                    />
                    <Select
                      w={260}
                      label={t('To which Storage Vault')}
                      data={[
                        { value: LATEST, label: t('The newest of the account') },
                        { value: ALL, label: t('Each of the account') },
                        ...([LATEST, ALL].includes(rule.Destination)
                          ? []
                          : [{ value: rule.Destination, label: rule.Destination }]),
                      ]}
                      value={rule.Destination}
                      onChange={(next) =>
                        setRules({ ...rules, [key]: { ...rule, Destination: next ?? LATEST } })
                      }
                    />
                    <Button
                      size="compact-sm"
                      variant="subtle"
                      color="red"
                      onClick={() =>
                        setRules(Object.fromEntries(Object.entries(rules).filter(([k]) => k !== key)))
                      }
                    >
                      {t('Remove this rule')}
                    </Button>
                  </Group>
                  <Schedules
                    value={rule.Schedules ?? []}
                    set={(next) => setRules({ ...rules, [key]: { ...rule, Schedules: next } })}
                  />
                </Stack>
              ))}
              <Group justify="space-between">
                <Switch
                  label={t('Linked: later changes of the policy reach the devices')}
                  checked={item.ExistingUserUpdate ?? false}
                  onChange={(e) => change({ ExistingUserUpdate: e.currentTarget.checked })}
                />
                <Group gap="xs">
                  <Button
                    size="compact-sm"
                    variant="default"
                    onClick={() =>
                      setRules({
                        ...rules,
                        [newId()]: { ...newRule(id, LATEST), Schedules: [newSchedule()] },
                      })
                    }
                  >
                    {t('Add rule')}
                  </Button>
                  <Button size="compact-sm" variant="subtle" color="red" onClick={() => remove(id)}>
                    {t('Remove')}
                  </Button>
                </Group>
              </Group>
            </Stack>
          </div>
        );
      })}
      <Button variant="default" w="fit-content" leftSection={<Plus size={14} />} onClick={add}>
        {t('Add Protected Item')}
      </Button>
    </Stack>
  );
}
